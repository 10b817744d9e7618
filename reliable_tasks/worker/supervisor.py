"""Processes that are started by fork, started again when they die, and told to stop together."""

import logging
import mmap
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

_PASSED_ON = {signal.SIGTERM: signal.SIGTERM, signal.SIGINT: signal.SIGINT, signal.SIGQUIT: signal.SIGQUIT,
              signal.SIGHUP: signal.SIGTERM}  # fmt: skip
"""What of ours the nodes are told. That a terminal has gone is no reason to start again."""

_WATCHED = {*_PASSED_ON, signal.SIGUSR1, signal.SIGCHLD}
_LOOK_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 30.0
_MOST_FAILED_STARTS = 5
_UNREACHABLE = 7


@dataclass
class Node:
    """One process, or its place while there is none.

    Args:
        pid: 0 while there is none.
        failures: how often in a row it has ended before it was ready.
        not_before: when it is started again, by the monotonic clock.
    """

    number: int
    pid: int = 0
    failures: int = 0
    not_before: float = 0.0


class Supervisor:
    """Keeps so many nodes running, in the process that calls `run`: it must have one thread and no connections.

    The first node is started alone: when it cannot start, one process says why, and none of the others is started.

    Args:
        count: how many nodes.
        main: what a node does, given its number (from 1) and a function to call when it is ready.
        log: where deaths and new starts are told.
    """

    def __init__(
        self, count: int, main: Callable[[int, Callable[[], None]], None], log: logging.Logger
    ) -> None:
        self._main = main
        self._log = log
        self._nodes = [Node(number) for number in range(1, count + 1)]
        self._ready = mmap.mmap(-1, count + 1)  # shared: a byte for each node
        self._stopping = False
        self._exit_code = 0

    def run(self) -> int:
        """Run until a signal says to stop or a node cannot be started; 0 when all have ended well."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        while True:
            self._start_what_is_due()
            if not any(node.pid for node in self._nodes) and self._stopping:
                return self._exit_code
            told = signal.sigtimedwait(_WATCHED, self._seconds_until_due())
            if told is not None and told.si_signo in _PASSED_ON:
                self._stopping = True
                self._tell(_PASSED_ON[signal.Signals(told.si_signo)])
            elif told is not None and told.si_signo == signal.SIGUSR1:
                self._tell(signal.SIGUSR1)  # Celery's answer: what each thread is at
            self._reap()

    def _start_what_is_due(self) -> None:
        for node in self._nodes:
            if self._stopping or (node.number > 1 and not self._any_was_ready()):
                return
            if not node.pid and node.not_before <= time.monotonic():
                self._start(node)

    def _start(self, node: Node) -> None:
        self._ready[node.number] = 0
        node.pid = os.fork()
        if node.pid:
            return
        os.setpgid(0, 0)  # Ctrl-C is for the supervisor, which passes it on once
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until Celery takes it: Python would show a traceback
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        self._main(node.number, lambda: self._told_ready(node.number))
        raise SystemExit(0)

    def _told_ready(self, number: int) -> None:
        self._ready[number] = self._ready[0] = 1

    def _any_was_ready(self) -> bool:
        return bool(self._ready[0])

    def _seconds_until_due(self) -> float:
        """A short while as long as something is to be seen by looking; else until a signal, nearly."""
        if not self._any_was_ready():
            return _LOOK_SECONDS
        waits = [node.not_before - time.monotonic() for node in self._nodes if not node.pid]
        return max(0.0, min([3600.0, *waits]))

    def _tell(self, number: signal.Signals) -> None:
        for node in self._nodes:
            if node.pid:
                os.kill(node.pid, number)  # not reaped yet, so its number is nobody else's

    def _reap(self) -> None:
        while any(node.pid for node in self._nodes):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            for node in self._nodes:
                if node.pid == pid:
                    node.pid = 0
                    self._ended(node, os.waitstatus_to_exitcode(status))

    def _ended(self, node: Node, code: int) -> None:
        was_ready = bool(self._ready[node.number])
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        if self._stopping:
            self._exit_code = self._exit_code or (1 if code < 0 else code)
            return
        node.failures = 0 if was_ready else node.failures + 1
        if not self._any_was_ready() or (code != _UNREACHABLE and node.failures == _MOST_FAILED_STARTS):
            self._log.error("node %d cannot start: it has ended %s; this worker ends", node.number, how)
            self._exit_code = 1 if code < 0 else code
            self._stopping = True
            self._tell(signal.SIGTERM)
            return
        pause = min(_LONGEST_PAUSE_SECONDS, 0.5 * 2**node.failures) if node.failures else 0.0
        node.not_before = time.monotonic() + pause
        self._log.warning("node %d has ended %s: it is started again in %g s", node.number, how, pause)
