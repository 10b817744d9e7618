"""What one bad message is: how it differs from a good one, and what must become of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pika

from tests.integration.bad_input.raw_properties import RawProperties

MISSING = object()
"""A header that a bad message lacks."""

CASE = b"CASE"
"""Stands in a body for the name of the case, in headers and properties as text."""

EMBED = b'{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'


class End(StrEnum):
    """What becomes of it."""

    DEAD = "dead"
    """A dead letter with a reason code."""
    RUNS = "succeeded"
    """Legitimate: it runs."""
    WAITS = "waits"
    """Legitimate: it waits in the outbox for its time."""
    EXPIRES = "expired"
    """Legitimate: it came too late."""
    NEVER_SENT = "never sent"
    """The broker does not take it."""


@dataclass(frozen=True)
class Target:
    """Whom the messages are for.

    Args:
        keyed: name of an idempotent task with database effects; its first argument is all of its key, and the
            second one, which may be left out, is a Decimal.
        plain: name of a Celery task that takes one argument, whatever it is.
    """

    keyed: str
    plain: str


@dataclass(frozen=True)
class BadMessage:
    """One class of bad input.

    Args:
        why: the reason code of its dead letter; for another end, why that is right.
        headers: instead of, or beside those of a good message.
        body: instead of a good one.
        properties: of AMQP, instead of, or beside those of a good message.
        plain: for the plain task; else for the keyed one.
        twice: headers that come a second time.
    """

    name: str
    end: End
    why: str
    headers: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b'[["CASE"], {}, ' + EMBED + b"]"
    properties: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False
    twice: Mapping[str, Any] = field(default_factory=dict)

    def body_for(self, case: str) -> bytes:
        """The body of the message of this case."""
        return self.body.replace(CASE, case.encode())

    def properties_for(self, case: str, target: Target) -> pika.BasicProperties:
        """Its properties: the correlation id says which case it is, whatever its headers say."""
        good = {
            "id": case,
            "task": target.plain if self.plain else target.keyed,
            "root_id": case,
            "retries": 0,
        }
        merged = {**good, **self.headers}
        pairs = [
            (name, _for_case(value, case))
            for name, value in (*merged.items(), *self.twice.items())
            if value is not MISSING
        ]
        properties = {
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "delivery_mode": 2,
            "correlation_id": case,
            **{name: _for_case(value, case) for name, value in self.properties.items()},
        }
        return RawProperties(pairs, **properties)


def _for_case(value: Any, case: str) -> Any:
    return value.replace("CASE", case) if isinstance(value, str) else value


def dead(name: str, why: str = "undecodable", **changes: Any) -> BadMessage:
    """One that must be a dead letter."""
    return BadMessage(name, End.DEAD, why, **changes)


def runs(name: str, why: str, **changes: Any) -> BadMessage:
    """One that looks bad and is not."""
    return BadMessage(name, End.RUNS, why, **changes)
