"""What the publisher writes is what py-amqp would write, byte for byte; and what AMQP cannot hold is never begun."""

import time
from datetime import UTC, datetime
from typing import Any

import amqp
import pytest
from amqp.method_framing import frame_writer
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks.broker.wire import NotEncodable, Wire
from reliable_tasks.model.envelope import Message
from reliable_tasks.model.shape import Route

CHANNEL = 3

short = st.text(max_size=60)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.sampled_from([2**31 - 1, 2**31, -(2**31), -(2**31) + 1]),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.decimals(-1000, 1000, places=2),
    st.integers(0, 2**32).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(short, inner, max_size=4),
    max_leaves=12,
)
properties = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("content_type", "content_encoding", "correlation_id", "reply_to", "type", "app_id"), short
    ),
)


class Written:
    """In the place of a connection and its transport."""

    bytes_sent = 0

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        self.data = b""

    def write(self, data: Any) -> None:
        self.data += bytes(data)


def by_the_library(message: Message, route: Route, frame_max: int, second: int) -> bytes:
    written = Written(frame_max)
    level = {} if route.broker_priority is None else {"priority": route.broker_priority}
    content = amqp.Message(
        message.body,
        application_headers=message.headers,
        delivery_mode=2,
        message_id=message.task_id,
        timestamp=second,
        **level,
        **message.properties,
    )
    arguments = amqp.serialization.dumps("Bssbb", (0, route.exchange, route.routing_key, True, False))
    frame_writer(written, written)(1, CHANNEL, amqp.spec.Basic.Publish, arguments, content)
    return written.data


def by_us(message: Message, route: Route, frame_max: int = 131072) -> bytes:
    return Wire(CHANNEL, frame_max).published(message, route)


def are_the_same(message: Message, route: Route, frame_max: int) -> bool:
    """Both have the second in which it is written."""
    before = int(time.time())
    ours = by_us(message, route, frame_max)
    return ours in [
        by_the_library(message, route, frame_max, second) for second in (before, int(time.time()))
    ]


def message(body: bytes = b"[]", headers: Any = None, given: Any = None) -> Message:
    return Message("some-id", "pay", "", "", "payments", body, headers or {}, given or {})


@given(
    body=st.binary(max_size=300),
    headers=st.dictionaries(short, values, max_size=6),
    given=properties,
    route=st.builds(Route, short, short, st.just("payments"), st.none() | st.integers(0, 255)),
)
def test_every_message_is_written_as_the_library_writes_it(
    body: bytes, headers: dict[str, Any], given: dict[str, Any], route: Route
) -> None:
    one = message(body, headers, given)
    assert are_the_same(one, route, 131072)


alike = st.sampled_from(
    [
        0,
        1,
        True,
        False,
        1.0,
        0.0,
        -0.0,
        None,
        "",
        "1",
        "x" * 600,
        [],
        [0],
        [None, None],
        [False],
        {},
        {"a": None},
    ]
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), alike, max_size=3), min_size=2, max_size=6))
def test_what_was_written_before_changes_nothing(many: list[dict[str, Any]]) -> None:
    """Of values that are equal but not the same, too."""
    wire, route = Wire(CHANNEL, 131072), Route("commands", "payments", "payments")
    for headers in many:
        ours, second = wire.published(message(headers=headers), route), int(time.time())
        theirs = [by_the_library(message(headers=headers), route, 131072, s) for s in (second - 1, second)]
        assert ours in theirs


def test_a_list_that_is_changed_is_written_as_it_is_now() -> None:
    wire, route, limits = Wire(CHANNEL, 131072), Route("", "q", "q"), [None, None]
    wire.published(message(headers={"timelimit": limits, "stamps": (stamps := {})}), route)
    limits[0], stamps["x"] = 5, 1  # type: ignore[call-overload]  # a list of what it is
    one = message(headers={"timelimit": limits, "stamps": stamps})
    assert wire.published(one, route) in [
        by_the_library(one, route, 131072, int(time.time()) - earlier) for earlier in (0, 1)
    ]


@pytest.mark.parametrize("length", [0, 1, 4087, 4088, 4089, 8176, 8177, 10_000])
def test_a_long_body_is_cut_into_frames_that_the_broker_takes(length: int) -> None:
    one, route = message(bytes(range(256)) * 40), Route("commands", "payments", "payments")
    one = message(one.body[:length])
    found = by_us(one, route, 4096)
    frames = []
    while found:
        size = int.from_bytes(found[3:7], "big")
        assert size + 8 <= 4096
        assert found[7 + size] == 0xCE
        frames.append((found[0], found[7 : 7 + size]))
        found = found[8 + size :]
    assert [kind for kind, _ in frames[:2]] == [1, 2]
    assert b"".join(payload for kind, payload in frames if kind == 3) == one.body
    if length <= 3000:
        assert are_the_same(one, route, 4096)


@pytest.mark.parametrize(
    ("bad", "route"),
    [
        (message(headers={"n": 2**70}), Route("", "q", "q")),
        (message(headers={"n": [2**70]}), Route("", "q", "q")),
        (message(headers={"n": {1, 2}}), Route("", "q", "q")),
        (message(headers={"x" * 256: 1}), Route("", "q", "q")),
        (message(given={"correlation_id": "x" * 300}), Route("", "q", "q")),
        (message(given={"content_type": 5}), Route("", "q", "q")),
        (message(), Route("", "x" * 256, "q")),
        (message(headers={"argsrepr": "x" * 131072}), Route("", "q", "q")),
        (message(), Route("", "q", "q", 256)),
    ],
    ids=str,
)
def test_what_amqp_cannot_hold_is_refused_as_a_whole(bad: Message, route: Route) -> None:
    with pytest.raises(NotEncodable):
        by_us(bad, route)


def test_the_lifetime_is_counted_from_when_it_is_sent() -> None:
    with_end = Message("i", "t", "", "", "q", b"[]", {}, {}, expires_at=datetime.now(UTC))
    assert b"\x010\x01i" in by_us(with_end, Route("", "q", "q"))
