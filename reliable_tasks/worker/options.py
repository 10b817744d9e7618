"""What `idempotent_task` takes, checked when the task is declared."""

import dataclasses
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cached_property
from typing import Any
from uuid import UUID

from reliable_tasks.errors import ArgumentError, TaskDeclarationError
from reliable_tasks.model.headers import is_plain
from reliable_tasks.model.retry import Effects, Retry


@dataclass(frozen=True)
class Probe:
    """Ask the other side whether the call with this idempotency key happened.

    Args:
        ask: called with the idempotency key and the task's arguments by name; returns the task's result when
            the call happened, `Probe.NOT_DONE` when it did not, `Probe.UNKNOWN` when the other side cannot tell.
    """

    ask: Callable[..., Any]

    NOT_DONE = object()
    UNKNOWN = object()


@dataclass(frozen=True)
class CallAgain:
    """The other side is idempotent for our key: after doubt, simply call again with the same key."""


MOST = 50
"""Tasks in one transaction: each holds its locks until all have ended."""

_KEPT = ("acks_late", "reject_on_worker_lost")
"""Celery's options that are always on for idempotent tasks."""

_TELLING = "a key must tell one business case from another"


class _Keys(string.Formatter):
    """Formats keys, of what has one way of being written: an argument, its attribute or its item."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if value is None or value == "":
            raise ArgumentError("the key is made of an empty argument", hint=_TELLING)
        if not _is_written_one_way(value):
            raise ArgumentError(
                f"a key cannot be made of a {type(value).__name__}: the next process may write it otherwise, and "
                "run the task twice",
                hint="make it of texts, numbers, times or ids, and lists of them",
            )
        return super().convert_field(value, conversion)


_KEYS = _Keys()
_ONE_WAY = (str, bytes, int, float, Decimal, UUID, date, time, timedelta, Enum)


def _is_written_one_way(value: Any) -> bool:
    """Whether its text depends on nothing but its value: that of a set does on the process, of a dict on its sender."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return all(_is_written_one_way(getattr(value, each.name)) for each in dataclasses.fields(value))
    if isinstance(value, (list, tuple)):
        return all(map(_is_written_one_way, value))
    return value is None or isinstance(value, _ONE_WAY)


@dataclass(frozen=True)
class TaskOptions:
    """How an idempotent task behaves.

    Args:
        key: a format string over the arguments, for example "order:{order_id}".
        lease: how long a claim of an external task is honoured without a heartbeat.
        on_uncertain: what to do when a call may have happened; None parks the task as `uncertain`.
        dead_letter: whether a task that ends badly waits for an operator (`dead`) or just ends (`failed`).
        max_crashes: executions that may die with their worker before the message counts as poison.
        batch: how many tasks, that wait for the same process, may share a transaction.
    """

    key: str
    effects: Effects
    queue: str | None = None
    retry: Retry = field(default_factory=Retry)
    on_uncertain: Probe | CallAgain | None = None
    lease: timedelta = timedelta(seconds=60)
    dead_letter: bool = True
    max_crashes: int = 5
    batch: int = 1

    def __post_init__(self) -> None:
        for name, value, kinds in (
            ("retry", self.retry, Retry),
            ("lease", self.lease, timedelta),
            ("on_uncertain", self.on_uncertain, (Probe, CallAgain, type(None))),
        ):
            if not isinstance(value, kinds):
                raise TaskDeclarationError(
                    f"{name}={value!r} is not what {name} takes",
                    hint="retry=Retry(...), lease=timedelta(...), on_uncertain=Probe(ask) or CallAgain()",
                )
        if self.on_uncertain is not None and self.effects is not Effects.EXTERNAL:
            raise TaskDeclarationError(
                f"on_uncertain means nothing for effects={self.effects.value!r}",
                hint="a database effect commits or does not; leave it out, or say effects='external'",
            )
        if self.lease < timedelta(seconds=1):
            raise TaskDeclarationError(
                "a lease below one second cannot be kept", hint="give lease=timedelta(...)"
            )
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or not 1 <= self.batch <= MOST:
            raise TaskDeclarationError(
                f"batch={self.batch!r} is not a number from 1 to {MOST}", hint="ten is a good one"
            )
        if self.batch > 1 and self.effects is not Effects.DATABASE:
            raise TaskDeclarationError(
                f"batch={self.batch} means nothing for effects={self.effects.value!r}",
                hint="leave it out: tasks without effects share commits anyway, calls to other systems cannot",
            )
        if not self.key_fields():
            raise TaskDeclarationError(
                f"the key {self.key!r} names no argument, so all tasks would be one",
                hint='use for example key="order:{order_id}"',
            )

    def key_fields(self) -> list[str]:
        """The arguments that the key is made of.

        Raises:
            TaskDeclarationError: when it is no format string.
        """
        try:
            fields = [name for _, name, _, _ in string.Formatter().parse(self.key) if name]
        except ValueError as error:
            raise TaskDeclarationError(
                f"the key {self.key!r} cannot be formatted: {error}",
                hint='use for example key="order:{order_id}"',
            ) from error
        return [name.split(".")[0].split("[")[0] for name in fields]

    @cached_property
    def _parts(self) -> list[tuple[str, str | None]] | None:
        """Texts, each with the argument behind it; None when the key is not made of whole arguments as they are."""
        parts = list(string.Formatter().parse(self.key))
        if any(
            how or conversion or not (name is None or name.isidentifier())
            for _, name, how, conversion in parts
        ):
            return None
        return [(text, name) for text, name, _, _ in parts]

    def _of_texts(self, arguments: dict[str, Any]) -> str | None:
        """The key when it is made of texts and whole numbers, as most are; else None."""
        texts: list[str] = []
        for text, name in self._parts or ((self.key, ""),):
            texts.append(text)
            if name is not None:
                value = arguments.get(name)
                if type(value) is not int and (type(value) is not str or not value):
                    return None
                texts.append(str(value))
        return "".join(texts)

    def key_for(self, arguments: dict[str, Any]) -> str:
        """The idempotency key of a call.

        Raises:
            ArgumentError: when what it is made of is missing or empty, or is not written the same way each time.
        """
        try:
            key = self._of_texts(arguments) or _KEYS.vformat(self.key, (), arguments)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
            raise ArgumentError(
                f"the key {self.key!r} needs the argument {error}", hint="pass it, or change the key"
            ) from error
        if len(key) > 500:
            raise ArgumentError(f"the key {key[:80]!r} is longer than 500 characters", hint=_TELLING)
        if not is_plain(key):
            raise ArgumentError(
                f"the key {key[:80]!r} has a control character or half a character in it",
                hint="a key must be readable wherever it is shown",
            )
        return key


def effects_named(name: str) -> Effects:
    """The effects of that name.

    Raises:
        TaskDeclarationError: when there are none.
    """
    try:
        return Effects(name)
    except ValueError:
        raise TaskDeclarationError(
            f"effects={name!r} is not known", hint=f"use {', '.join(repr(one.value) for one in Effects)}"
        ) from None


def refuse_lossy(options: Mapping[str, Any]) -> None:
    """Refuse options of `app.task` with which an idempotent task would lose what it promises.

    Raises:
        TaskDeclarationError: naming them.
    """
    lossy = [name for name in _KEPT if not options.get(name, True)] + (
        ["acks_on_failure"] if options.get("acks_on_failure") else []
    )
    if lossy:
        raise TaskDeclarationError(
            f"{', '.join(lossy)} would let a message go before its task is recorded",
            hint="leave it out: a message is settled after the commit",
        )
    if "base" in options:
        raise TaskDeclarationError(
            "an idempotent task has its base class already",
            hint="give what yours does as options, on_failure=function for one",
        )
