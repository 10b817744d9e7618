"""Sends a workload to a deployment while faults happen to it, and waits until nothing is under way any more."""

import contextlib
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from examples.payments import ledger
from examples.payments.deployment import Sender
from examples.payments.faults import SCRIPT, Faults
from examples.payments.workload import Workload
from reliable_tasks.errors import ReliableTasksError

Say = Callable[[str], None]

POLL_SECONDS = 0.5
STIR_SECONDS = 5.0
"""How long to wait for the first effect of a part before its fault is done all the same."""

QUIET_SECONDS = 1.5
"""Longer than the broker takes to count its queues."""

STALLED_SECONDS = 60.0
"""So long without any change, and nothing more is waited for; a slow machine gets the time it needs."""


def send_under_faults(
    sender: Sender, workload: Workload, engine: Engine, faults: Faults | None, say: Say
) -> None:
    """Send everything in parts; one fault while each part is under way."""
    script: Sequence[str] = SCRIPT if faults else ()
    parts = workload.chunks(len(script) + 1)
    sent = 0
    for index, part in enumerate(parts):
        before = paid(engine)
        sender.send(part)
        if faults and index < len(script):
            _wait_for_effects(engine, before)
            faults.do(script[index])
        sent += sender.wait()
        say(f"  {sent} messages accepted, {paid(engine)} orders paid")
    for fault in script[len(parts) :]:
        if faults:
            faults.do(fault)


def paid(engine: Engine) -> int:
    """Orders in the ledger; -1 while the database does not answer."""
    with contextlib.suppress(SQLAlchemyError), engine.connect() as connection:
        return ledger.paid_orders(connection)
    return -1


def wait_quiet(busy: Callable[[], str], what: str, say: Say) -> bool:
    """Wait until `busy` has said "" for a while; False when it goes on saying the same for too long."""
    last, changed = "", time.monotonic()
    told = changed
    while True:
        try:
            state = busy()
        except (SQLAlchemyError, ReliableTasksError) as error:
            state = f"no answer ({type(error).__name__})"
        now = time.monotonic()
        if state != last:
            last, changed = state, now
        elif not state and now - changed > QUIET_SECONDS:
            return True
        elif state and now - changed > STALLED_SECONDS:
            say(f"  {what}: nothing has changed for {STALLED_SECONDS:g} s: {state}")
            return False
        if state and now - told > 5:
            say(f"  {state}")
            told = now
        time.sleep(POLL_SECONDS)  # between questions to the database


def _wait_for_effects(engine: Engine, before: int) -> None:
    give_up = time.monotonic() + STIR_SECONDS
    while paid(engine) <= before and time.monotonic() < give_up:
        time.sleep(0.1)  # between questions to the database
