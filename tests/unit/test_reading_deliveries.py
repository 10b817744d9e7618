"""Deliveries read from bytes: as the library reads them, or not at all."""

import struct
from typing import Any

import amqp
import pytest
from amqp.method_framing import frame_handler
from amqp.serialization import dumps
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks.broker.deliveries import Delivered, Unusual, read_delivery

CHANNEL = 3

names = st.text(max_size=20)
atoms = st.one_of(
    st.text(max_size=30),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.none(),
)
values = st.recursive(
    st.one_of(atoms, st.binary(max_size=10), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
properties = st.fixed_dictionaries(
    {},
    optional={
        "content_type": names,
        "content_encoding": names,
        "application_headers": st.dictionaries(names, values, max_size=6),
        "delivery_mode": st.integers(0, 2),
        "priority": st.integers(0, 255),
        "correlation_id": names,
        "reply_to": names,
        "expiration": names,
        "message_id": names,
        "timestamp": st.integers(0, 2**63),
        "type": names,
        "app_id": names,
    },
)


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, CHANNEL, len(payload)) + payload + b"\xce"


def delivered(of: dict[str, Any], body: bytes, tag: int = 7, redelivered: bool = False) -> bytes:
    """What a broker sends."""
    message = amqp.Message(body, **of)
    method = struct.pack(">HH", 60, 60) + dumps("sLbss", ("ctag", tag, redelivered, "an exchange", "key"))
    header = struct.pack(">HHQ", 60, 0, len(body)) + message._serialize_properties()
    return frame(1, method) + frame(2, header) + (frame(3, body) if body else b"")


class _Library:
    bytes_recv = 0


def by_the_library(data: bytes) -> Any:
    """The message that py-amqp makes of the same frames."""
    found: list[Any] = []
    read = frame_handler(_Library(), lambda *inbound: found.append(inbound[3]))
    while data:
        kind, channel, size = struct.unpack_from(">BHI", data)
        read((kind, channel, data[7 : 7 + size]))
        data = data[8 + size :]
    return found[0]


def attempt(data: bytes, at: int = 0) -> Delivered | None:
    try:
        return read_delivery(data, at)
    except Unusual:
        return None


@given(properties, st.binary(min_size=1, max_size=50), st.booleans())
def test_what_is_read_is_what_the_library_reads(of: Any, body: bytes, redelivered: bool) -> None:
    data = delivered(of, body, tag=2**40, redelivered=redelivered)
    found = attempt(b"before" + data + b"behind", 6)
    if found is None:
        return
    message = by_the_library(data)
    assert found.properties == message.properties
    assert list(found.properties) == list(message.properties)
    assert {name: type(value) for name, value in found.headers.items()} == {
        name: type(value) for name, value in message.properties.get("application_headers", {}).items()
    }
    assert found.body == bytes(message.body)
    assert found.content_type == message.properties.get("content_type")
    assert found.end == 6 + len(data)
    assert found.number == CHANNEL
    assert found.delivery_info == {
        "consumer_tag": "ctag",
        "delivery_tag": 2**40,
        "redelivered": redelivered,
        "exchange": "an exchange",
        "routing_key": "key",
    }


@given(
    st.dictionaries(
        names, st.one_of(atoms, st.lists(atoms, max_size=3), st.dictionaries(names, atoms, max_size=2))
    )
)
def test_headers_of_common_kinds_are_always_read(headers: dict[str, Any]) -> None:
    data = delivered({"application_headers": headers}, b"x")
    found = read_delivery(data, 0)
    assert found is not None
    assert found.headers == by_the_library(data).properties["application_headers"]


def test_what_celery_sends_is_read() -> None:
    headers = {"id": "an id", "task": "pay", "retries": 0, "timelimit": [None, None], "ignore_result": False}
    headers["stamps"] = {}
    of = {"content_type": "application/json", "application_headers": headers, "timestamp": 1}
    found = read_delivery(delivered(of, b"[[], {}, {}]"), 0)
    assert found is not None
    assert found.headers == headers
    assert found.body == b"[[], {}, {}]"


@given(properties, st.integers(min_value=0))
def test_of_what_is_not_all_there_nothing_is_read(of: Any, cut: int) -> None:
    data = delivered(of, b"a body")
    assert attempt(data[: cut % len(data)]) is None


@given(properties, st.data())
def test_no_bent_byte_ends_the_reader(of: Any, data: st.DataObject) -> None:
    whole = bytearray(delivered(of, b"a body"))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    found = attempt(bytes(whole))
    if found is None:
        return
    message = by_the_library(bytes(whole[: found.end]))
    assert found.properties == message.properties
    assert found.body == bytes(message.body)


@pytest.mark.parametrize(
    "data",
    [
        frame(8, b""),
        frame(1, struct.pack(">HH", 60, 80) + bytes(9)),
        delivered({}, b""),
        frame(1, struct.pack(">HH", 60, 60) + dumps("sLbss", ("ctag", 1, False, "", "key")))
        + frame(2, struct.pack(">HHQH", 60, 0, 10, 0))
        + frame(3, b"part"),
        delivered({"application_headers": {"table": {"a": {}}}}, b"x"),
        delivered({"app_id": "x"}, b"x"),
    ],
    ids=[
        "a heartbeat",
        "an ack",
        "no body",
        "a body of several frames",
        "a table in a table",
        "an odd property",
    ],
)
def test_anything_else_is_left_to_the_library(data: bytes) -> None:
    with pytest.raises(Unusual):
        read_delivery(data, 0)
