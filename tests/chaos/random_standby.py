"""Faults of the random tier in which the database fails over to a synchronous standby.

All programs reach the database through one address, as through the virtual one of any such pair: a proxy that passes
bytes on to whichever server it is led to. Connections that are there stay where they are until their server has ended.
"""

import time
from collections.abc import Callable

from reliable_tasks.dev.ports import LOOPBACK
from tests.chaos.random_field import Entry, Field
from tests.standby import CANCEL, WAITING, Pair, Server, synchronous_standby

CANCELLED = 20
"""Waits that are cancelled, before the primary is gone."""


def _killed(field: Field) -> bool:
    """The primary is gone at once; what it had committed is with the standby, or nobody was told of it."""
    with synchronous_standby(field.stack) as pair:
        waited = _commits_wait(field, pair)
        moment = time.time()
        pair.primary.database.kill()
        _lead_over(field, pair)
    return waited and field.wait(lambda: field.begins(moment) > 0)


def _comes_back(field: Field) -> bool:
    """The primary says nothing, the standby takes over, the old one goes on with the connections that it has.

    Until it is switched off there are two primaries; nothing that is written to the old one may be told as committed.
    """
    with synchronous_standby(field.stack) as pair:
        waited = _commits_wait(field, pair)
        pair.primary.stand_still()
        moment = time.time()
        field.hold(0.5, 2.0)
        _lead_over(field, pair)
        pair.primary.go_on()
        # those wait for a standby that there is no more, until their server is switched off
        written = field.wait(lambda: _waits(pair.primary) > 0)
        field.hold(1.0, 3.0)
    return waited and written and field.wait(lambda: field.begins(moment) > 0)


def _wait_cancelled(field: Field) -> bool:
    """Commits that wait for a standby which is away are cancelled: everybody sees them, and the failover loses them."""
    with synchronous_standby(field.stack) as pair:
        waited = _commits_wait(field, pair)
        moment = time.time()
        pair.standby.database.kill()
        cancelled = 0

        def enough() -> bool:
            nonlocal cancelled
            cancelled += int(pair.primary.ask(CANCEL))
            return cancelled >= CANCELLED

        cancelled_all = field.wait(enough)
        seen = field.count("reliable_tasks.attempts")
        pair.primary.database.kill()
        pair.standby.database.begin()
        _lead_over(field, pair)
        lost = seen - field.count("reliable_tasks.attempts")
    field.run.history.say("failed over", cancelled=cancelled, attempts_lost=lost)
    return waited and cancelled_all and lost > 0 and field.wait(lambda: field.begins(moment) > 0)


def _commits_wait(field: Field, pair: Pair) -> bool:
    return field.wait(lambda: _waits(pair.primary) > 0)


def _waits(server: Server) -> int:
    return int(server.ask(f"SELECT count(*) FROM {WAITING}"))


def _lead_over(field: Field, pair: Pair) -> None:
    assert field.address is not None
    pair.take_over()
    field.address.lead_to(LOOPBACK, pair.standby.state.port)


def _entry(name: str, row: str, act: Callable[[Field], bool]) -> Entry:
    return Entry(name, (row,), act, address=True)


STANDBY = (
    _entry("the database is killed, and its synchronous standby takes over", "F20", _killed),
    _entry("the standby takes over, and the old primary goes on for a while", "F20", _comes_back),
    _entry("commits no longer wait for the standby, which takes over without them", "F21", _wait_cancelled),
)
