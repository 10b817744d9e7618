"""Tells waiting processes, after a commit, which tasks it has ended.

On a connection of its own and not in the commit itself: in Postgres a transaction that notifies holds a lock on the
whole database until its commit is on disk, so that no two of them could be written together. Here the notification is
not written to disk at all, and what ends within a few milliseconds shares one. It may be lost: whoever waits looks for
himself, too. Where nobody listens there is none.
"""

import atexit
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from reliable_tasks.store.ended import CHANNEL, EVERYBODY, NOBODY_HEARS, payloads, word_of

Connect = Callable[[], Any]

_PAUSE_SECONDS = 0.003
"""Between two notifications of a process: at most so much is added to a wait, under load only."""

_IDLE_SECONDS = 30.0
_AFTER_ERROR_SECONDS = 1.0
_AT_EXIT_SECONDS = 1.0
_MOST_WORDS = 20_000
_NOTIFY = f"SELECT set_config('synchronous_commit', 'off', true), pg_notify(%s, %s) WHERE NOT {NOBODY_HEARS}"


class Announcer:
    """One thread and one connection per process, made when first needed and closed when long idle.

    Args:
        connect: makes a connection of the driver's that commits by itself.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._begin()
        _announcers.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._words: list[str] = []
        self._thread: threading.Thread | None = None
        self._connection: Any = None
        self._closing = self._lost = False

    def announce(self, task_ids: Iterable[str]) -> None:
        """Tell soon, and without waiting for it, that these have ended; their commit is done."""
        words = [word_of(task_id) for task_id in task_ids]
        with self._changed:
            if self._closing:
                return
            self._words += words
            if len(self._words) > _MOST_WORDS:
                self._words, self._lost = [], True
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="announcer", daemon=True)
                with suppress(RuntimeError):  # the interpreter is ending, or may have no more threads
                    thread.start()
                    self._thread = thread
            self._changed.notify_all()

    def close(self) -> None:
        """Tell what is not told yet, for a second at most."""
        with self._changed:
            self._closing = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None:
            thread.join(_AT_EXIT_SECONDS)

    def _run(self) -> None:
        while (words := self._next()) is not None:
            try:
                self._tell([EVERYBODY] if self._lost else list(payloads(words)))
                self._lost, pause = False, _PAUSE_SECONDS
            except Exception:
                # whatever it is: nobody depends on being told, and the next one tries again
                self._drop()
                self._lost, pause = True, _AFTER_ERROR_SECONDS
            if not self._closing:
                time.sleep(pause)  # what ends meanwhile shares the next notification

    def _next(self) -> list[str] | None:
        """What is to be told, when there is something; None when the thread is to end."""
        with self._changed:
            if not (self._words or self._lost or self._closing):
                self._changed.wait(_IDLE_SECONDS)
            words, self._words = self._words, []
            if words or (self._lost and not self._closing):
                return words
            self._thread = None
            self._drop()
            return None

    def _tell(self, texts: list[str]) -> None:
        if self._connection is None:
            self._connection = self._connect()
        with self._connection.cursor() as cursor:
            for text in texts:
                cursor.execute(_NOTIFY, (CHANNEL, text))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def _in_child(self) -> None:
        # neither thread nor lock came along, and the socket is the parent's
        if self._connection is not None:
            with suppress(Exception):
                os.close(self._connection.fileno())
        self._begin()


_announcers: WeakSet[Announcer] = WeakSet()
_of_engine: WeakKeyDictionary[Any, Announcer] = WeakKeyDictionary()


def announcer_of(engine: Any, connector: Callable[[Any, str], Connect]) -> Announcer:
    """The process's one announcer for an engine."""
    found = _of_engine.get(engine)
    if found is None:
        # of two threads that come at once, both get the first one's
        found = _of_engine.setdefault(engine, Announcer(connector(engine, "reliable_tasks announcer")))
    return found


@atexit.register
def _close_all() -> None:
    for announcer in list(_announcers):
        announcer.close()


def _after_fork_in_child() -> None:
    for announcer in list(_announcers):
        announcer._in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
