"""Whole tasks: claim, effect, result and attempt of a first execution in one transaction.

Two round trips frame what the task does itself: one that claims, one that records, commits and begins the next
transaction. Several tasks may share a transaction, each from a savepoint of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
from psycopg2.errors import LockNotAvailable
from psycopg2.extras import Json
from sqlalchemy import Engine

from reliable_tasks import failpoints
from reliable_tasks.model.envelope import Message
from reliable_tasks.store import outbox
from reliable_tasks.store.announcing import announcer_of
from reliable_tasks.store.batches import RECORDED
from reliable_tasks.store.ended import NOBODY_HEARS
from reliable_tasks.store.engine import connector
from reliable_tasks.store.lending import Lent, is_in_order, is_open

AMONG_MILLISECONDS = 10
"""How long one among others waits for any lock: they hold theirs meanwhile, and could wait for each other for ever."""

_AFRESH = "RESET ALL; RESET ROLE; "
"""What a task has SET ends with it: the next one would write to its schema, or as its user."""

_AMONG = f"SET LOCAL lock_timeout = {AMONG_MILLISECONDS}; "
_CLAIM_ONE = "SELECT reliable_tasks.claim_whole(%s, %s, %s, %s)"
_CLAIM_MANY = "SELECT * FROM reliable_tasks.claim_wholes(%s, %s::uuid[], %s::text[], %s::bytea[])"
_RECORD_ONE = f"SELECT reliable_tasks.record_whole({', '.join(['%s'] * 16)}); "
_RECORD_MANY = "SELECT reliable_tasks.record_wholes(%s, %s, %s::text[], %s, %s); "
_SEND = (
    "INSERT INTO reliable_tasks.outbox (task_id, task_name, exchange, routing_key, queue, body, headers, properties, "
    "priority, expires_at, due_at) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, coalesce(%s, clock_timestamp() + %s)); "
)
_COMMIT = f"COMMIT; BEGIN; SELECT {NOBODY_HEARS}"


@dataclass(frozen=True)
class First:
    """A first execution that wants its key."""

    task_id: str
    name: str
    key: str
    fingerprint: bytes


class WholeTasks:
    """Commits whole tasks on one connection, from the first claim until `roll_back`.

    Whatever raises, psycopg2's errors as they are, leaves a transaction of which nothing may be kept: `roll_back`.
    """

    waited_in_vain = False
    """Whether a statement of the last one gave up waiting for a lock, also where the task has not minded."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: Any = None
        self._begin()

    def _begin(self) -> None:
        self._claimed: dict[str, First] = {}
        self._done: list[tuple[First, Mapping[str, Any], Sequence[Message]]] = []
        self._transaction: str | None = None
        self._among = False
        self._effects = 0
        self._before = ""

    def claim(self, first: First) -> bool:
        """Take a key that nobody knows, of a task without an end; False when it is not like that."""
        values = (first.task_id, first.name, first.key, first.fingerprint)
        row = self._first_words(_CLAIM_ONE, values)
        if row is None or row[0] is None:
            return False
        self._transaction, self._claimed = row[0], {first.task_id: first}
        return True

    def claim_together(self, firsts: Sequence[First]) -> set[str]:
        """The same for several of one task, no key or id of which comes twice; the ids of those that were taken."""
        fields = (
            [one.task_id for one in firsts],
            [one.key for one in firsts],
            [one.fingerprint for one in firsts],
        )
        row = self._first_words(_AMONG + _CLAIM_MANY, (firsts[0].name, *fields))
        self._among = True
        if row is None or row[0] is None:
            return set()
        self._transaction, taken = row[0], set(row[1])
        self._claimed = {first.task_id: first for first in firsts if first.task_id in taken}
        return taken

    def _first_words(self, claim: str, values: Sequence[Any]) -> Any:
        """The answer to a claim; None when another execution of the key is under way."""
        afresh = ""
        if self._held is None:
            self._held, afresh = self._engine.raw_connection(), _AFRESH
        try:
            with self._held.cursor() as cursor:
                cursor.execute(afresh + claim, values)
                return cursor.fetchone()
        except LockNotAvailable:
            return None

    @contextmanager
    def lent(self) -> Iterator[Lent]:
        """The connection, for the effect of a task that was claimed."""
        self._effects += 1
        effect = f"reliable_tasks_effect_{self._effects}"
        afresh = _AFRESH + _AMONG if self._before else ""
        before = f"{self._before}{afresh}SAVEPOINT {effect}; " if self._among else ""
        self._last = Lent(self._held, effect, before, has_effect=self._among)
        try:
            yield self._last
        finally:
            self._last.take_back()
            self.waited_in_vain = self._last.waited_in_vain
            if self._last.used and self._among:
                self._before = f"{self._last.before}RELEASE SAVEPOINT {effect}; "

    @property
    def is_open(self) -> bool:
        """Whether the transaction that was begun is still there, or one that took its place."""
        return is_open(self._held)

    @property
    def is_in_order(self) -> bool:
        """Whether no statement of it has failed since the last savepoint."""
        return is_in_order(self._held)

    def keep(self, first: First, row: Mapping[str, Any], messages: Sequence[Message]) -> None:
        """A task that was claimed has succeeded: `commit` writes its rows, and what it sends."""
        self._done.append((first, row, messages))
        del self._claimed[first.task_id]

    def undo(self) -> None:
        """Take back the effect of the last one among others; its claim goes with the commit."""
        if self._last.used:
            effect = self._last.effect
            with self._held.cursor() as cursor:
                cursor.execute(f"{self._last.before}ROLLBACK TO SAVEPOINT {effect}")
            self._before = f"RELEASE SAVEPOINT {effect}; "

    def commit(self) -> None:
        """Record what was kept, commit, and begin anew."""
        statements, values = [self._before, _AFRESH if self._before or self._last.used else ""], []
        if self._among:
            statements.append(_RECORD_MANY)
            values += self._rows()
        else:
            ((first, row, _messages),) = self._done
            statements.append(_RECORD_ONE)
            values += [self._transaction, first.task_id, first.name, first.key, *_columns(row)]
        for message in (message for _first, _row, messages in self._done for message in messages):
            statements.append(_SEND)
            values += _sent(message)
        if failpoints.ACTIVE:
            failpoints.reach("worker.before_commit", self._held)
        (nobody_hears,) = self._held.driver_connection.commit_within("".join([*statements, _COMMIT]), values)
        ended = [first.task_id for first, _row, _messages in self._done]
        self._begin()
        if not nobody_hears:
            announcer_of(self._engine, connector).announce(ended)
        if failpoints.ACTIVE:
            failpoints.reach("worker.after_commit_before_ack")

    def roll_back(self) -> None:
        """Keep nothing of what was not committed, and give the connection back; the next claim takes another."""
        self._begin()
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def _rows(self) -> list[Any]:
        """What `record_wholes` takes."""
        name = self._done[0][0].name
        given_up = [first.key for first in self._claimed.values()]
        rows = [
            {"id": first.task_id, "key": first.key, **{column: row[column] for column in RECORDED}}
            for first, row, _messages in self._done
        ]
        return [self._transaction, name, given_up, len(rows), msgspec.json.encode(rows).decode()]


def _columns(row: Mapping[str, Any]) -> Iterator[Any]:
    for column in RECORDED:
        value = row[column]
        yield msgspec.json.encode(value).decode() if column in ("args", "kwargs") else value


def _sent(message: Message) -> list[Any]:
    row = outbox.row_of(message)
    columns = ("task_id", "task_name", "exchange", "routing_key", "queue", "body")
    return [
        *(row[name] for name in columns),
        Json(row["headers"]),
        Json(row["properties"]),
        row["priority"],
        row["expires_at"],
        row.get("due_at"),
        message.delay or timedelta(),
    ]
