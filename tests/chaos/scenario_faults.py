"""What is done in the small runs: each starts the programs, does its fault while they work, and ends it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import text

from reliable_tasks import failpoints
from reliable_tasks.dev import Stack
from tests.chaos.broker_faults import full_queues, paused, ready, without_bindings
from tests.chaos.clock import CLOCK
from tests.chaos.running import PATIENCE_SECONDS, Run
from tests.waiting import wait_until as wait_at_most

wait_until = partial(wait_at_most, seconds=PATIENCE_SECONDS)
WORKER = "worker-1"
PAYMENTS = r"^payments(\.p\d)?$"
LATE_SECONDS = 1.5


def _begun(run: Run, key: str) -> dict[str, Any]:
    """The execution of a key that has begun."""
    found = wait_until(
        lambda: [line for line in run.history.lines() if line["op"] == "begin" and line["key"] == key],
        f"{key} begins",
    )
    return found[-1]


@contextmanager
def _fault(run: Run, name: str) -> Iterator[None]:
    """A fault in the history: scheduled, and when the block was done without an error, fired."""
    run.history.say("scheduled", fault=name)
    yield
    run.history.say("fired", fault=name, inside=True)


def _start(run: Run, **variables: str) -> None:
    run.start_services()
    run.start_worker(WORKER, **variables)


def _sent(run: Run) -> None:
    wait_until(run.all_sent, "everything is sent")


def no_fault(run: Run, _stack: Stack) -> None:
    _start(run)
    run.start_producers()
    _sent(run)


def kill_a_pool_process(run: Run, _stack: Stack) -> None:
    _start(run)
    run.start_producers()
    (long,) = (line for line in run.sends if line["kind"] == "long")
    with _fault(run, "pool process killed while it executes"):
        os.kill(_begun(run, long["key"])["pid"], signal.SIGKILL)
    _sent(run)


def outlive_the_lease(run: Run, _stack: Stack) -> None:
    """A pool process stands still after its call, longer than its lease; another takes over; the first goes on."""
    _start(run)
    run.start_producers()
    (key,) = {line["key"] for line in run.sends if line["kind"] == "charge"}
    with _fault(run, "pool process stopped past its lease"):
        pid = _begun(run, key)["pid"]
        wait_until(lambda: run.bank_log.exists() and key in run.bank_log.read_text(), "the bank has charged")
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: _state_of(run, key) == "succeeded", "another execution has taken over")
        finally:
            os.kill(pid, signal.SIGCONT)
    _sent(run)


def clock_ahead(run: Run, _stack: Stack) -> None:
    """The worker's clock is an hour ahead of the database's: every lease seems to have ended."""
    with _fault(run, "clock ahead"):
        _start(run, **{CLOCK: "3600"})
        run.start_producers()
        _begun(run, run.sends[0]["key"])
        run.history.say("gate", name="second")
        _sent(run)


def queues_full(run: Run, _stack: Stack) -> None:
    with _fault(run, "queues full"), full_queues(run.around, PAYMENTS):
        run.start_services()
        # a queue tells a channel that it is full when it has taken a message too much: a window would all be taken
        run.start_producers(per_second=25)
        _sent(run)
        _relay_has_tried(run)
    run.start_worker(WORKER)


def bindings_gone(run: Run, _stack: Stack) -> None:
    with _fault(run, "bindings gone"), without_bindings(run.around, "commands"):
        run.start_services()
        run.start_producers()
        _relay_has_tried(run)
        _direct_has_tried(run)
    run.start_worker(WORKER)
    _sent(run)


def late_confirm(run: Run, stack: Stack) -> None:
    """The broker stands still; the confirm that comes when it goes on is not that of the next message."""
    with full_queues(run.around, PAYMENTS):
        run.start_producers()
        _waits(run, 1)
        with _fault(run, "broker paused"), paused(stack):
            run.history.say("gate", name="pause")
            _waits(run, 2)
        goes_on = time.monotonic()
        # a sender that has given its connection up may have taken the message back with it
        wait_until(
            lambda: ready(run.around, "notifications") == 2 or time.monotonic() > goes_on + LATE_SECONDS,
            "the broker has what it was sent in its pause, or never will",
        )
        run.history.say("gate", name="late")
        _sent(run)
    run.start_services()
    run.start_worker(WORKER)


def _waits(run: Run, times: int) -> None:
    wait_until(
        lambda: sum(line["op"] == "waits" for line in run.history.lines()) == times,
        f"the sender waits ({times})",
    )


def dead_letter_queues_gone(run: Run, _stack: Stack) -> None:
    with _fault(run, "dead-letter queues unreachable"), without_bindings(run.around, "dead-letters"):
        _start(run)
        run.start_producers()
        _sent(run)
        wait_until(lambda: _count(run, "dead_letters WHERE collected_at IS NULL") > 0, "one has died")
        wait_until(
            lambda: not _count(run, "results WHERE state IN ('enqueued', 'retry_wait')"), "the others ended"
        )


def refused_commit(run: Run, _stack: Stack) -> None:
    """Postgres refuses to record that an attempt has failed and another one follows."""
    with _fault(run, "commit refused"), run.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION bank.refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$; "
            "CREATE TRIGGER refuse BEFORE INSERT ON reliable_tasks.attempts FOR EACH ROW "
            "WHEN (new.next_step = 'retry_wait') EXECUTE FUNCTION bank.refuse()"
        )
    no_fault(run, _stack)


def killed_after_the_commit(run: Run, _stack: Stack) -> None:
    marks = run.folder / "marks"
    marks.mkdir()
    point = "worker.after_commit_before_ack:kill:1"
    with _fault(run, "pool process killed after its commit"):
        _start(run, **{failpoints.VARIABLE: point, failpoints.MARKS_VARIABLE: str(marks)})
        run.start_producers()
        _sent(run)
        wait_until(lambda: (marks / point).exists(), "the failpoint has fired")
    wait_until(lambda: _count(run, "suppressed_deliveries"), "its message has come again")


def _direct_has_tried(run: Run) -> None:
    """A direct sender has met the fault, and was told, or was not."""
    direct = {line["id"] for line in run.sends if line["via"] == "direct"}
    wait_until(
        lambda: any(
            line["op"] == "send" and line["id"] in direct and line["phase"] in ("ok", "fail")
            for line in run.history.lines()
        ),
        "a direct sender has tried",
    )


def _relay_has_tried(run: Run) -> None:
    """The relay has met the fault: what it was refused is put off, or gone."""
    wait_until(lambda: _count(run, "results"), "something is enqueued")
    wait_until(
        lambda: _count(run, "outbox WHERE tries > 0") or not _count(run, "outbox WHERE tries = 0"),
        "the relay has tried",
    )


def _count(run: Run, what: str) -> int:
    with run.engine.connect() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM reliable_tasks.{what}")).scalar_one())


def _state_of(run: Run, key: str) -> str | None:
    with run.engine.connect() as connection:
        query = text("SELECT state FROM reliable_tasks.claims WHERE key = :key")
        found: str | None = connection.execute(query, {"key": key}).scalar_one_or_none()
        return found
