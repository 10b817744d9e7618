"""Properties of the decoder: it takes a message or refuses it, and what was sent arrives."""

import json
import random
import tracemalloc
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kombu.exceptions import EncodeError

from reliable_tasks.errors import ArgumentError
from reliable_tasks.model.envelope import Message
from reliable_tasks.worker.arguments import fingerprint
from reliable_tasks.worker.publishing import redirect
from tests.fuzz.decoding import Kind, Order, app, take, take_content_header, types
from tests.fuzz.mutations import EMBED, bent

PROPERTIES = {"content_type": "application/json", "content_encoding": "utf-8"}
HEADERS = {"id": "an-id", "task": "plain"}
names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)
numbers = st.decimals(allow_nan=False, allow_infinity=False)
moments = st.datetimes(timezones=st.just(UTC))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=20)
    | st.decimals(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def sent(send: Any) -> Message:
    messages: list[Message] = []
    with redirect(messages.append):
        send()
    (message,) = messages
    return message


@given(st.binary(max_size=300))
def test_any_bytes_are_taken_or_refused(body: bytes) -> None:
    take(body, HEADERS, PROPERTIES)


@given(
    st.dictionaries(
        st.sampled_from([*HEADERS, "retries", "eta", "expires", "timelimit", "x-death", "stamps"]), values
    )
)
def test_any_headers_are_taken_or_refused(headers: dict[str, Any]) -> None:
    take(json.dumps([[], {}, EMBED]).encode(), {**HEADERS, **headers}, PROPERTIES)


@given(values, values, values)
def test_any_json_in_the_parts_is_taken_or_refused(args: Any, kwargs: Any, embed: Any) -> None:
    body = json.dumps([args, kwargs, embed], default=repr).encode()
    call = take(body, HEADERS, PROPERTIES)
    assert call is None or (isinstance(call.args, list) and set(call.embed) == set(EMBED))


@settings(max_examples=2_000)
@given(st.integers(min_value=0))
def test_bent_messages_are_taken_or_refused(seed: int) -> None:
    take(*bent(random.Random(seed)))


@given(st.binary(max_size=400))
def test_any_content_header_is_made_readable_or_refused(payload: bytes) -> None:
    again = take_content_header(payload)
    if again is not None:
        assert take_content_header(again) == again


@given(names, numbers, st.dates(), moments, st.uuids(), st.sampled_from(Kind), st.lists(numbers, max_size=3))
def test_what_is_sent_arrives(
    number: str, amount: Decimal, day: date, moment: datetime, uid: Any, kind: Kind, rest: list[Decimal]
) -> None:
    order = Order(number, amount, day)
    arguments = (order, amount, day, moment, uid, kind, {"rest": rest})
    message = sent(lambda: types.delay(*arguments))
    call = take(message.body, message.headers, message.properties)
    assert call is not None
    found = types.reliable_arguments.bind(call.args, call.kwargs)
    assert tuple(found.values()) == arguments
    assert str(found["amount"]) == str(amount), "money keeps its digits"
    assert call.key == f"types:{number}"
    assert call.fingerprint == fingerprint("types", types.reliable_arguments.told(found))


@given(values)
def test_what_may_be_sent_can_be_read(value: Any) -> None:
    try:
        message = sent(lambda: app.tasks["plain"].delay(value))
    except (ArgumentError, EncodeError):
        return  # the sender hears of it
    assert take(message.body, message.headers, message.properties) is not None


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_two_amounts_have_one_fingerprint_if_and_only_if_they_are_equal(one: Decimal, other: Decimal) -> None:
    assert (fingerprint("t", {"a": one}) == fingerprint("t", {"a": other})) is (one == other)


def test_amounts_that_differ_in_the_thirtieth_digit_are_two_payloads() -> None:
    one, other = Decimal("1.00000000000000000000000000001"), Decimal(1)
    assert fingerprint("t", {"a": one}) != fingerprint("t", {"a": other})


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"[" + b"[]," * 340_000 + b"[]]",
        b"9" * 1_000_000,
        b'"' + b"\\u0041" * 170_000,
    ],
    ids=["lists", "objects", "many", "digits", "escapes"],
)
def test_a_megabyte_of_nonsense_is_refused_in_little_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        assert take(body, HEADERS, PROPERTIES) is None
        assert tracemalloc.get_traced_memory()[1] < 100 * 1024 * 1024
    finally:
        tracemalloc.stop()
