"""Whole tasks: claim, effect, result and attempt of a first execution in one transaction.

Two round trips frame what the task does itself: one that claims, one that records, commits and begins the next
transaction. Several tasks may share a transaction, each from a savepoint of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
from psycopg2.errors import LockNotAvailable
from psycopg2.extras import Json
from sqlalchemy import Connection, Engine

from reliable_tasks import failpoints
from reliable_tasks.model.envelope import Message
from reliable_tasks.store import outbox
from reliable_tasks.store.announcing import announcer_of
from reliable_tasks.store.engine import connector
from reliable_tasks.store.lending import EFFECT, is_open, lend

ALONE_MILLISECONDS = 50
"""How long the claim of one that is alone waits for another's of the same key."""

AMONG_MILLISECONDS = 10
"""How long one among others waits for any lock: they hold theirs meanwhile, and could wait for each other for ever."""

_TASK = "reliable_tasks_task"
_AFRESH = "RESET ALL; RESET ROLE; "
"""What a task has SET ends with it: the next one would write to its schema, or as its user."""

_CLAIM = "SELECT set_config('reliable_tasks.claimed', reliable_tasks.claim_first(%s, %s, %s, %s, %s, %s)::text, true); "
_EFFECT = f"SAVEPOINT {EFFECT}; SELECT current_setting('reliable_tasks.claimed')"
_ALONE = f"{_AFRESH}SET LOCAL lock_timeout = {ALONE_MILLISECONDS}; {_CLAIM}SET LOCAL lock_timeout = DEFAULT; {_EFFECT}"
_AMONG = f"{_AFRESH}SET LOCAL lock_timeout = {AMONG_MILLISECONDS}; SAVEPOINT {_TASK}; {_CLAIM}{_EFFECT}"
_RECORD = f"reliable_tasks.record_first({', '.join(['%s'] * 17)})"
_SEND = (
    "INSERT INTO reliable_tasks.outbox (task_id, task_name, exchange, routing_key, queue, body, headers, properties, "
    "priority, expires_at, due_at) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, coalesce(%s, clock_timestamp() + %s)); "
)
_COMMIT = "COMMIT; BEGIN"


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

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._owner = str(uuid4())
        self._held: Any = None
        self._done: list[tuple[First, Mapping[str, Any], Sequence[Message]]] = []
        self._leave = ""
        self.waited_in_vain = False
        """Whether a statement of the last one gave up waiting for a lock, also where the task has not minded."""

    def claim(self, first: First, *, among: bool) -> bool:
        """Take a key that nobody knows, of a task without an end; False when it is not like that.

        Args:
            among: others share the transaction, those that were claimed since the last `commit`.
        """
        if self._held is None:
            self._held = self._engine.raw_connection()
        id_ = first.task_id
        values = (id_, id_, first.name, first.key, first.fingerprint, self._owner)
        try:
            with self._held.cursor() as cursor:
                cursor.execute(self._leave + (_AMONG if among else _ALONE), values)
                (claimed,) = cursor.fetchone()
        except LockNotAvailable:  # another execution of the key is under way
            self.undo()
            return False
        self._leave = f"RELEASE SAVEPOINT {_TASK}; " if among else ""
        return bool(claimed == "true")

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """The connection, for the effect of the task that was claimed last."""
        connection, lent = lend(self._engine, self._held)
        try:
            yield connection
        finally:
            self.waited_in_vain = lent.waited_in_vain
            lent.take_back()
            connection.close()

    @property
    def is_open(self) -> bool:
        """Whether the transaction that was begun is still there, or one that took its place."""
        return is_open(self._held)

    def keep(self, first: First, row: Mapping[str, Any], messages: Sequence[Message]) -> None:
        """The task that was claimed last has succeeded: `commit` writes its rows, and what it sends."""
        self._done.append((first, row, messages))

    def undo(self) -> None:
        """Take back the claim and the effect of the last one among others."""
        self._leave = f"ROLLBACK TO SAVEPOINT {_TASK}; RELEASE SAVEPOINT {_TASK}; "

    def commit(self) -> None:
        """Record what was kept, commit, and begin anew."""
        statement: list[str] = [self._leave, _AFRESH]
        values: list[Any] = []
        for first, row, _messages in self._done:
            statement.append("SELECT " if not values else ", ")
            statement.append(_RECORD)
            values += self._values(first, row)
        statement.append("; ")
        for message in (message for _first, _row, messages in self._done for message in messages):
            statement.append(_SEND)
            values += _sent(message)
        if failpoints.ACTIVE:
            failpoints.reach("worker.before_commit", self._held)
        self._held.driver_connection.commit_within("".join([*statement, _COMMIT]), values)
        ended = [first.task_id for first, _row, _messages in self._done]
        self._done, self._leave = [], ""
        announcer_of(self._engine, connector).announce(ended)
        if failpoints.ACTIVE:
            failpoints.reach("worker.after_commit_before_ack")

    def roll_back(self) -> None:
        """Keep nothing of what was not committed, and give the connection back; the next claim takes another."""
        self._done, self._leave = [], ""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def _values(self, first: First, row: Mapping[str, Any]) -> list[Any]:
        """What `record_first` takes."""
        return [
            first.task_id,
            first.task_id,
            first.name,
            first.key,
            self._owner,
            row["queue"],
            row["priority"],
            msgspec.json.encode(row["args"]).decode(),
            msgspec.json.encode(row["kwargs"]).decode(),
            row["result"],
            row["worker"],
            row["root_id"],
            row["parent_id"],
            row["correlation_id"],
            row["enqueued_at"],
            row["started_at"],
            row["finished_at"],
        ]


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
