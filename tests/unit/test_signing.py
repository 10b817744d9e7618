"""Signatures: every signed part counts, keys rotate, and what brokers change on the way does not."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks.errors import BadSignature, Unsigned
from reliable_tasks.model.envelope import ENQUEUED_AT, Message
from reliable_tasks.model.signing import (
    HEADERS,
    PROPERTIES,
    SIGNATURE,
    CameBy,
    Key,
    Signer,
    Signing,
    sent_at,
    unverified_id,
)
from reliable_tasks.settings.signing import NotKeys, parse_keys

NOW = datetime(2026, 11, 24, tzinfo=UTC)
OLD, NEW = Key("2025-b", b"o" * 32), Key("2026-a", b"n" * 32)
SIGNER = Signer((NEW, OLD), Signing.REQUIRED)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
VALUE = (
    st.none() | TEXT | st.integers(-(2**31), 2**31) | st.booleans() | st.lists(st.none() | st.integers(0, 9))
)
MESSAGES = st.builds(
    Message,
    task_id=TEXT,
    task_name=TEXT,
    exchange=st.just(""),
    routing_key=st.just(""),
    queue=TEXT,
    body=st.binary(max_size=40),
    headers=st.dictionaries(st.sampled_from(HEADERS), VALUE),
    properties=st.dictionaries(st.sampled_from(PROPERTIES), TEXT),
)


def is_right(message: Message, signer: Signer = SIGNER, came_by: CameBy | None = None) -> bool:
    try:
        signer.verify(message, came_by)
    except BadSignature:
        return False
    return True


def differ(one: Any, other: Any) -> bool:
    """Whether JSON tells them apart: 1 is not true, 1.0 is 1."""
    return json.dumps(one) != json.dumps(other)


@given(MESSAGES)
def test_what_was_signed_is_right(message: Message) -> None:
    assert is_right(SIGNER.sign(message, NOW))


@given(MESSAGES, st.sampled_from(HEADERS), VALUE)
def test_a_changed_header_makes_the_signature_wrong(message: Message, name: str, value: Any) -> None:
    changed = SIGNER.sign(message, NOW).with_headers(**{name: value})
    assert is_right(changed) != differ(message.headers.get(name), value)


@given(MESSAGES, st.sampled_from(PROPERTIES), TEXT)
def test_a_changed_property_makes_the_signature_wrong(message: Message, name: str, value: str) -> None:
    signed = SIGNER.sign(message, NOW)
    changed = replace(signed, properties={**signed.properties, name: value})
    assert is_right(changed) == (message.properties.get(name) == value)


@given(MESSAGES, st.binary(max_size=40))
def test_another_body_makes_the_signature_wrong(message: Message, body: bytes) -> None:
    assert is_right(replace(SIGNER.sign(message, NOW), body=body)) == (message.body == body)


@given(MESSAGES, TEXT)
def test_a_signature_is_for_one_queue(message: Message, queue: str) -> None:
    assert is_right(replace(SIGNER.sign(message, NOW), queue=queue)) == (message.queue == queue)


@given(MESSAGES, TEXT.filter(bool), TEXT)
def test_a_message_by_way_of_an_exchange_is_for_that_way(message: Message, exchange: str, key: str) -> None:
    signed = SIGNER.sign(replace(message, exchange=exchange, routing_key=key), NOW)
    there = replace(signed, exchange="", routing_key="", queue="where it came out")
    assert is_right(there, came_by=CameBy(exchange, key))
    assert not is_right(there, came_by=CameBy(exchange, key + "x"))
    assert not is_right(there)


@given(MESSAGES, st.integers(0, 200), st.integers(1, 255))
def test_no_character_of_the_signature_may_differ(message: Message, place: int, change: int) -> None:
    signed = SIGNER.sign(message, NOW)
    text = signed.headers[SIGNATURE]
    place %= len(text)
    other = text[:place] + chr(ord(text[place]) ^ change) + text[place + 1 :]
    assert not is_right(signed.with_headers(**{SIGNATURE: other}))


@given(MESSAGES, st.one_of(st.none(), TEXT, st.binary(), st.integers(), st.just("v1.2026-a.0.")))
def test_whatever_stands_in_the_header_is_refused_and_not_an_error(message: Message, given: Any) -> None:
    assert given is None or not is_right(message.with_headers(**{SIGNATURE: given}))


@pytest.mark.parametrize("value", [b"x", {"a": 1}, float("nan"), NOW, "\ud800"])
def test_a_header_that_cannot_be_signed_is_refused(value: Any) -> None:
    message = SIGNER.sign(Message("t", "pay", "", "", "q", b"", {"id": "t"}), NOW)
    assert not is_right(message.with_headers(eta=value))


def test_what_the_broker_changes_is_outside() -> None:
    signed = SIGNER.sign(Message("t", "pay", "", "", "q", b"", {"id": "t"}), NOW)
    history = {"x-death": [{"queue": "q"}], "x-delivery-count": 3, "rt-put-back": 1}
    assert is_right(replace(signed.with_headers(**history), priority=9, expires_at=NOW, due_at=NOW))


def test_a_retired_key_still_verifies_and_a_removed_one_does_not() -> None:
    message = Message("t", "pay", "", "", "q", b"", {"id": "t"})
    signed = Signer((OLD,), Signing.REQUIRED).sign(message, NOW)
    assert is_right(signed)
    assert not is_right(signed, Signer((NEW,), Signing.REQUIRED))
    assert not is_right(signed, Signer((Key(OLD.kid, b"x" * 32),), Signing.REQUIRED))
    assert SIGNER.sign(message, NOW).headers[SIGNATURE].startswith("v1.2026-a.")


def test_without_a_signature() -> None:
    message = Message("t", "pay", "", "", "q", b"", {"id": "t"})
    with pytest.raises(Unsigned):
        SIGNER.verify(message)
    migrating = Signer((NEW,), Signing.ACCEPT_UNSIGNED)
    migrating.verify(message)
    assert SIGNATURE not in migrating.sign_again(message, NOW).headers, "nobody has verified it"
    assert not is_right(SIGNER.sign(message, NOW).with_headers(retries=1), migrating)
    Signer().verify(message.with_headers(**{SIGNATURE: "v1.x.0.00"}))
    assert SIGNATURE not in Signer().sign(message.with_headers(**{SIGNATURE: "stale"}), NOW).headers


@given(MESSAGES)
def test_an_unverified_message_has_a_name_that_no_task_has(message: Message) -> None:
    name = unverified_id(message)
    assert name.startswith("unverified-")
    assert name == unverified_id(message.with_headers(**{"x-death": [1]}))
    assert name != unverified_id(replace(message, body=message.body + b"x"))
    # two forgeries are two dead letters, whatever they differ in
    assert name != unverified_id(message.with_headers(**{"x-of-theirs": [{"a": 1}]}))
    assert name != unverified_id(message.with_headers(retries=-1))


KEY = "bm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm5ubm4="


def test_keys_are_read_from_one_line_or_several() -> None:
    for text in (f"new:{KEY},old:{KEY}", f"new:{KEY}\nold:{KEY}\n", f" new:{KEY} ,\told:{KEY.rstrip('=')}"):
        keys = parse_keys(text)
        assert [kid for kid, _ in keys] == ["new", "old"]
        assert {secret.get_secret_value() for _, secret in keys} == {b"n" * 32}
    assert "nnn" not in repr(parse_keys(f"new:{KEY}"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (",", "none in it"),
        (KEY, "does not begin with an id"),
        (f"a.b:{KEY}", "does not begin with an id"),
        (f"a:{KEY},a:{KEY}", "two keys"),
        ("a:!!!", "not base64"),
        ("a:c2hvcnQ=", "has 5 bytes, and needs 32"),
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(text: str, why: str) -> None:
    with pytest.raises(NotKeys, match=why) as refused:
        parse_keys(text)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        ({}, None),
        ({ENQUEUED_AT: "2026-01-01T10:00:00"}, "2026-01-01T10:00:00+00:00"),
        ({ENQUEUED_AT: "nonsense"}, None),
        ({SIGNATURE: "v1.a.1767261600.00"}, "2026-01-01T10:00:00+00:00"),
        ({SIGNATURE: "v1.a.999999999999.00"}, None),
        ({ENQUEUED_AT: "2026-01-02T00:00:00", SIGNATURE: "v1.a.1767261600.00"}, "2026-01-01T10:00:00+00:00"),
        ({ENQUEUED_AT: "2025-01-02T00:00:00", SIGNATURE: "v1.a.1767261600.00"}, "2025-01-02T00:00:00+00:00"),
    ],
)
def test_a_message_is_as_old_as_the_older_of_its_times(headers: dict[str, str], sent: str | None) -> None:
    found = sent_at(headers)
    assert (found.isoformat() if found else None) == sent
