"""Hears which tasks have ended: one thread and one connection per process, for all its threads that wait.

A notification may be lost, and so may the connection: hearing only saves looking. Whoever waits looks before he waits,
now and then while he waits, and whenever the connection was made anew.
"""

import atexit
import os
import selectors
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from reliable_tasks.store.ended import CHANNEL, EVERYBODY, HEAR, word_of, words_in
from reliable_tasks.store.engine import connector

Connect = Callable[[], Any]

_IDLE_SECONDS = 60.0
_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 5.0
_AT_EXIT_SECONDS = 1.0


class Waiting:
    """One thread that waits for some tasks to end."""

    def __init__(self) -> None:
        self._words: set[str] = set()
        self._called = threading.Event()

    def expect(self, task_ids: Collection[str]) -> None:
        """From now on be called when all of these have ended. Look after that, not before: else one is missed."""
        self._called.clear()
        self._words = {word_of(task_id) for task_id in task_ids}

    def pause(self, seconds: float) -> bool:
        """Wait until called; False when these seconds have passed before."""
        return self._called.wait(seconds)

    def hear(self, word: str) -> None:
        """A task of this word has ended."""
        self._words.discard(word)
        if not self._words:
            self._called.set()

    def call(self) -> None:
        """Look, whatever was heard."""
        self._called.set()


class Listener:
    """What a process hears; safe to share between threads and forks.

    Args:
        connect: makes a connection of the driver's that commits by itself.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._begin()
        _listeners.add(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Waiting]] = {}
        self._threads = 0
        self._left = 0.0
        self._thread: threading.Thread | None = None
        self._wake: tuple[int, int] | None = None
        self._socket: int | None = None
        self._closing = False

    @property
    def hears(self) -> bool:
        """Whether it would hear now; else those who wait must look more often."""
        return self._socket is not None

    @contextmanager
    def waiting_for(self, task_ids: Collection[str]) -> Iterator[Waiting]:
        """Hear of these tasks inside the block; `expect` says of which of them."""
        one, words = Waiting(), {word_of(task_id) for task_id in task_ids}
        with self._lock:
            for word in words:
                self._waiting.setdefault(word, []).append(one)
            self._threads += 1
            self._start()
        try:
            yield one
        finally:
            with self._lock:
                self._threads -= 1
                self._left = time.monotonic()
                for word in words:
                    self._forget(word, one)

    def close(self) -> None:
        """Close the connection; whoever still waits looks for himself."""
        with self._lock:
            self._closing = True
            thread = self._thread
            if self._wake is not None:
                os.write(self._wake[1], b".")
        if thread is not None:
            thread.join(_AT_EXIT_SECONDS)

    def _forget(self, word: str, one: Waiting) -> None:
        others = self._waiting.get(word, [])
        if one in others:
            others.remove(one)
        if not others:
            self._waiting.pop(word, None)

    def _start(self) -> None:
        if self._thread is not None or self._closing:
            return
        self._wake = os.pipe()
        thread = threading.Thread(target=self._run, name="listener", daemon=True, args=self._wake)
        try:
            thread.start()
        except RuntimeError:  # no more threads: they look for themselves
            self._end()
        else:
            self._thread = thread

    def _end(self) -> None:
        self._thread = None
        for end in self._wake or ():
            os.close(end)
        self._wake = None

    def _run(self, wake: int, _write: int) -> None:
        retry = _FIRST_RETRY_SECONDS
        while True:
            try:
                with closing(self._connect()) as connection, selectors.DefaultSelector() as selector:
                    selector.register(wake, selectors.EVENT_READ)
                    with connection.cursor() as cursor:
                        cursor.execute(f"LISTEN {CHANNEL}")
                        cursor.execute(HEAR)
                    selector.register(connection.fileno(), selectors.EVENT_READ)
                    self._socket, retry = connection.fileno(), _FIRST_RETRY_SECONDS
                    self._call_all()  # what has ended before was told to nobody here
                    self._serve(connection, selector)
            except Exception:
                # whatever it is, they look for themselves meanwhile
                retry = min(retry * 2, _LAST_RETRY_SECONDS)
            finally:
                self._socket = None
            self._call_all()
            with selectors.DefaultSelector() as selector:
                selector.register(wake, selectors.EVENT_READ)
                told = selector.select(0 if self._closing else retry)
            with self._lock:
                if told or self._closing or not self._threads:
                    self._end()
                    return

    def _serve(self, connection: Any, selector: selectors.BaseSelector) -> None:
        """Hear until nobody has waited for long, or the process ends."""
        while True:
            selector.select(_IDLE_SECONDS)
            idle = not self._threads and time.monotonic() - self._left >= _IDLE_SECONDS
            if self._closing or idle:
                return
            connection.poll()
            while connection.notifies:
                self._hear(connection.notifies.pop(0).payload)

    def _hear(self, payload: str) -> None:
        if payload == EVERYBODY:
            self._call_all()
            return
        with self._lock:
            for word in words_in(payload):
                for one in self._waiting.get(word, ()):
                    one.hear(word)

    def _call_all(self) -> None:
        with self._lock:
            for those in self._waiting.values():
                for one in those:
                    one.call()

    def _in_child(self) -> None:
        # the thread did not come along, the socket is the parent's, and nobody waits here
        for descriptor in (self._socket, *(self._wake or ())):
            if descriptor is not None:
                with suppress(OSError):
                    os.close(descriptor)
        self._begin()


_listeners: WeakSet[Listener] = WeakSet()
_of_engine: WeakKeyDictionary[Any, Listener] = WeakKeyDictionary()


def listener_of(engine: Any) -> Listener:
    """The process's one listener for an engine."""
    found = _of_engine.get(engine)
    if found is None:
        # of two threads that come at once, both get the first one's
        found = _of_engine.setdefault(engine, Listener(connector(engine, "reliable_tasks listener")))
    return found


@atexit.register
def _close_all() -> None:
    for listener in list(_listeners):
        listener.close()


def _after_fork_in_child() -> None:
    for listener in list(_listeners):
        listener._in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
