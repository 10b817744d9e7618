"""Signed messages: an HMAC over everything that decides what a message does, in a form that any language can build.

The canonical form is a JSON array without whitespace, UTF-8, text not escaped beyond what JSON demands; what a
message does not have is null. `JSON.stringify` and `json.dumps(.., ensure_ascii=False, separators=(",", ":"))`
both write it. Outside of it is what changes on the way: redelivery, x-death, x-delivery-count, priority, lifetime.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from reliable_tasks.errors import BadSignature, Unsigned
from reliable_tasks.model.envelope import CORRELATION_ID, ENQUEUED_AT, REPLAY, Message, without_history
from reliable_tasks.model.headers import DEEPEST, moment
from reliable_tasks.model.storable import storable
from reliable_tasks.settings import SigningSettings

SIGNATURE = "rt-signature"
"""The header: version, id of the key, seconds since 1970 at signing, HMAC-SHA256 in hex, between full stops."""

VERSION = "v1"

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

_AS_THEY_ARE = frozenset({str, int, bool, type(None)})
_LONGEST_TIME = 12
"""Digits of seconds since 1970."""

PROPERTIES = ("content_type", "content_encoding", "reply_to", "correlation_id")
"""The properties of AMQP that are signed, in this order."""

HEADERS = (
    "task",
    "id",
    "root_id",
    "parent_id",
    "group",
    "group_index",
    "retries",
    "eta",
    "expires",
    "timelimit",
    "ignore_result",
    "replaced_task_nesting",
    REPLAY,
    CORRELATION_ID,
    ENQUEUED_AT,
)
"""The headers that are signed, in this order. The idempotency key is made of task and body, so it is signed too."""


class Signing(StrEnum):
    """What becomes of a message without a signature. A wrong one is refused, unless signing is off."""

    REQUIRED = "required"
    ACCEPT_UNSIGNED = "accept-unsigned"
    OFF = "off"


@dataclass(frozen=True)
class Key:
    """One secret, shared by all who send and all who execute."""

    kid: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class CameBy:
    """How a message that names its own exchange was sent: its signature says this instead of a queue."""

    exchange: str
    routing_key: str


@dataclass(frozen=True)
class Signer:
    """Signs with the first key, verifies with any."""

    keys: tuple[Key, ...] = ()
    signing: Signing = Signing.OFF

    @property
    def on(self) -> bool:
        """Whether a wrong signature is refused."""
        return self.signing is not Signing.OFF

    def sign(self, message: Message, now: datetime) -> Message:
        """The message with a signature of its present content; without one when signing is off."""
        headers = message.headers
        if SIGNATURE in headers:
            headers = {name: value for name, value in headers.items() if name != SIGNATURE}
        elif not self.on:
            return message
        if not self.on:
            return replace(message, headers=headers)
        key, issued_at = self.keys[0], int(now.timestamp())
        mac = _mac(key, canonical(message, key.kid, issued_at))
        return replace(message, headers={**headers, SIGNATURE: f"{VERSION}.{key.kid}.{issued_at}.{mac}"})

    def sign_again(self, message: Message, now: datetime) -> Message:
        """After `verify`: the same for a message that goes another way; what came unsigned stays unsigned."""
        return self.sign(message, now) if SIGNATURE in message.headers else message

    def verify(self, message: Message, came_by: CameBy | None = None) -> None:
        """Refuse a message that none of our keys has signed for this queue (or for the exchange it came by).

        Raises:
            Unsigned: it has no signature, and must have one.
            BadSignature: it has one that is not right.
        """
        if not self.on:
            return
        given = message.headers.get(SIGNATURE)
        if given is None:
            if self.signing is Signing.ACCEPT_UNSIGNED:
                return
            raise Unsigned(
                f"task {message.task_id} in queue {message.queue} is not signed",
                hint="its sender needs a key of RELIABLE_TASKS_SIGNING_KEYS; replay it with --vouch to run it as it is",
            )
        ways = [replace(message, exchange="", routing_key="")]
        if came_by is not None and came_by.exchange:
            ways.append(replace(message, exchange=came_by.exchange, routing_key=came_by.routing_key))
        if not any(self._is_right(given, way) for way in ways):
            raise BadSignature(
                f"task {message.task_id} in queue {message.queue} has a signature that is not right",
                hint="it was changed, sent to another queue, or signed with a key that is not in "
                "RELIABLE_TASKS_SIGNING_KEYS",
            )

    def _is_right(self, given: Any, message: Message) -> bool:
        version, kid, issued_at = (str(given).split(".") + [""] * 3)[:3]
        key = next((key for key in self.keys if key.kid == kid), None)
        if version != VERSION or key is None or not issued_at.isdecimal() or len(issued_at) > _LONGEST_TIME:
            return False
        try:
            wanted = f"{VERSION}.{kid}.{int(issued_at)}.{_mac(key, canonical(message, kid, int(issued_at)))}"
        except (TypeError, ValueError, RecursionError):
            return False  # a header of a kind that is never signed
        return hmac.compare_digest(wanted.encode(), str(given).encode("utf-8", "replace"))


NOT_SIGNING = Signer()
"""Where there are no keys."""


def signer_of(settings: SigningSettings) -> Signer:
    """The signer that the settings mean."""
    keys = tuple(Key(kid, secret.get_secret_value()) for kid, secret in settings.keys)
    return Signer(keys, Signing(settings.mode))


def canonical(message: Message, kid: str, issued_at: int) -> bytes:
    """What is signed. A message is bound to its queue; one that names an exchange, to that and its routing key.

    Raises:
        TypeError, ValueError: when a header holds what JSON cannot.
    """
    by_queue, headers = not message.exchange, message.headers
    return _encode(
        [
            f"reliable_tasks {VERSION}",
            kid,
            issued_at,
            message.queue if by_queue else None,
            None if by_queue else message.exchange,
            None if by_queue else message.routing_key,
            *(_plain(message.properties.get(name)) for name in PROPERTIES),
            *[
                value if type(value := headers.get(name)) in _AS_THEY_ARE else _plain(value)
                for name in HEADERS
            ],
            hashlib.sha256(message.body).hexdigest(),
        ]
    ).encode()


def sent_at(headers: Mapping[str, Any]) -> datetime | None:
    """When a message was sent first, as far as its headers tell; retries and replays keep that time.

    The older of both, where it was signed: a clock that is ahead must not make a message younger than it is.
    """
    times = []
    with suppress(TypeError, ValueError, KeyError):
        times.append(moment(headers[ENQUEUED_AT]))
    issued_at = (str(headers.get(SIGNATURE) or "").split(".") + [""] * 3)[2]
    if issued_at.isdecimal() and len(issued_at) <= _LONGEST_TIME:
        with suppress(ValueError, OverflowError):
            times.append(datetime.fromtimestamp(int(issued_at), UTC))
    return min(times, default=None)


def unverified_id(message: Message) -> str:
    """A name for a message that must not be believed: not even its own id, which may be another task's.

    The same for worker and collector, so that both write one dead letter.
    """
    headers = {str(name): value for name, value in without_history(message.headers).items()}
    digest = hashlib.sha256(json.dumps([message.queue, _same(headers)], sort_keys=True).encode())
    digest.update(message.body)
    return f"unverified-{digest.hexdigest()[:32]}"


def _same(value: Any, depth: int = 0) -> Any:
    """A header's value as both client libraries read it; what they read differently does not count."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict) and depth < DEEPEST:
        return {storable(str(name)): _same(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)) and depth < DEEPEST:
        return [_same(item, depth + 1) for item in value]
    return "?"


def _plain(value: Any) -> Any:
    """A header's value; a whole number looks the same whatever its sender's language calls it."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        raise TypeError("no signed header is a table")
    return value


def _mac(key: Key, text: bytes) -> str:
    return hmac.digest(key.secret, text, "sha256").hex()
