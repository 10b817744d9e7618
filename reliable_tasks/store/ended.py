"""Which tasks a transaction has ended, and the words in which other processes are told of it after the commit.

A word is eight characters made from the task's id: whoever may listen in this database learns no ids, and many words
fit in one notification. Two ids with one word cost a needless look and nothing else.
"""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

CHANNEL = "reliable_tasks_ended"
EVERYBODY = "*"
"""Instead of words: whoever waits looks for himself."""

_HEARS = 7_411_013_350_621_907_001
"""The lock's number, which nobody else may use in this database."""

HEAR = f"SELECT pg_advisory_lock_shared({_HEARS})"
"""Whoever waits holds this lock, from before he first looks."""

NOBODY_HEARS = f"CASE WHEN pg_try_advisory_lock({_HEARS}) THEN pg_advisory_unlock({_HEARS}) ELSE false END"
"""Asked after a commit: whoever takes the lock later looks later, and sees what was committed.

Two that ask at the same moment disturb each other, and then tell nobody something.
"""

_WORD = 8
_NOTED = "reliable_tasks.ended"
_MOST_BYTES = 7900
"""Postgres takes less than 8000 in one notification."""


def word_of(task_id: str) -> str:
    """The word for a task id."""
    # any string may be an id, also one that is no UTF-8
    return b64encode(blake2b(task_id.encode(errors="surrogatepass"), digest_size=6).digest()).decode()


def payloads(words: Iterable[str]) -> Iterator[str]:
    """The words in as few notifications as they fit in."""
    text = "".join(words)
    for start in range(0, len(text), _MOST_BYTES // _WORD * _WORD):
        yield text[start : start + _MOST_BYTES // _WORD * _WORD]


def words_in(payload: str) -> list[str]:
    """The words of a notification; whoever can connect may send one, so it may hold anything."""
    return [payload[start : start + _WORD] for start in range(0, len(payload), _WORD)]


def note_ended(connection: Any, *task_ids: str) -> None:
    """Say that the connection's transaction ends these tasks: who waits for them is told when it has committed."""
    connection.info.setdefault(_NOTED, []).extend(task_ids)


def take_noted(connection: Any) -> list[str]:
    """What was noted since the last call."""
    noted: list[str] = connection.info.pop(_NOTED, [])
    return noted
