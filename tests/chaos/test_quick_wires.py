"""Programs lose the broker, the database, or an answer of theirs; they stand still, or go all at once."""

import os
import signal

import pytest
from sqlalchemy import text

from tests.chaos.acts import LATE, Act, run
from tests.chaos.cells import PRODUCER, SERVICES, WORKER, marks
from tests.chaos.faults import Direction, Effect, Fault
from tests.chaos.pooled import Verdicts, verdicts_of
from tests.chaos.running import APP, HANGS_SECONDS, PATIENCE_SECONDS, Run
from tests.chaos.wires import Wires
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(HANGS_SECONDS)
TO_CLIENT = Direction.TO_CLIENT


def _database_away(run: Run, wires: Wires) -> None:
    """What is sent meanwhile waits with the broker; the worker tries again and again."""
    wires.database.refuse()
    run.history.say("gate", name=LATE)
    wait_until(lambda: wires.database.refused() >= 3, "the worker wants the database", PATIENCE_SECONDS)


def _broker_away(run: Run, wires: Wires) -> None:
    """What the worker executes ends meanwhile, and cannot be settled."""
    wires.broker.refuse()
    run.history.say("gate", name=LATE)
    wait_until(lambda: wires.broker.refused() >= 1, "the worker wants the broker", PATIENCE_SECONDS)


def _killed_at_once(run: Run, _wires: Wires) -> None:
    _signal(run, WORKER, signal.SIGKILL)


def _overtaken(run: Run, _wires: Wires) -> None:
    """The first relay stands still with rows in its hands, and has lost its lead; another sends them; it goes on."""
    run.paused.add(SERVICES)
    wait_until(lambda: marks(run), "the relay stops", PATIENCE_SECONDS)
    with run.engine.begin() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM {_LEADING}"))
    run.start("services-2", ["reliable_tasks.cli.main", "services", "-A", f"{APP}:app"])
    with run.engine.connect() as connection:
        empty = text("SELECT count(*) = 0 FROM reliable_tasks.outbox WHERE due_at <= now()")
        wait_until(
            lambda: connection.execute(empty).scalar(), "another relay has sent everything", PATIENCE_SECONDS
        )
    _signal(run, SERVICES, signal.SIGCONT)


_LEADING = (
    "pg_locks WHERE locktype = 'advisory' AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def _signal(run: Run, program: str, number: signal.Signals) -> None:
    """A signal to a program with all its processes."""
    process = run.programs[program].process
    assert process is not None
    os.killpg(process.pid, number)


ACTS = [
    Act(
        "a sender's connection is reset before the confirm",
        PRODUCER,
        broker=(Fault(Effect.RESET, "basic.ack", TO_CLIENT, nth=2),),
        insist=False,
        events=("unknown",),
    ),
    Act(
        "a sender hears no confirm on a half-open connection",
        PRODUCER,
        broker=(Fault(Effect.DEAF_CLIENT, "basic.publish.end", nth=2, after=True),),
        insist=False,
        events=("unknown",),
    ),
    Act(
        "a sender's message arrives after it has given up",
        PRODUCER,
        broker=(Fault(Effect.STALL_TO_SERVER, "basic.publish", nth=2),),
        insist=False,
        events=("unknown",),
    ),
    Act(
        "the answer to a sender's commit is lost",
        PRODUCER,
        database=(Fault(Effect.RESET, "complete COMMIT", TO_CLIENT, nth=2),),
        insist=False,
        events=("unknown",),
    ),
    Act(
        "the relay is cut off after a message and before its confirm",
        SERVICES,
        broker=(Fault(Effect.RESET, "basic.publish.end", nth=3, after=True),),
    ),
    Act(
        "the relay is cut off within a message",
        SERVICES,
        broker=(Fault(Effect.RESET, nth=3000),),
    ),
    Act(
        "the relay's delete is done and its answer lost",
        SERVICES,
        database=(Fault(Effect.RESET, "complete DELETE", TO_CLIENT, nth=2),),
    ),
    Act(
        "a worker's commit does not arrive",
        WORKER,
        database=(Fault(Effect.RESET, "COMMIT", nth=8),),
    ),
    Act(
        "the answer to a worker's commit is lost",
        WORKER,
        database=(
            Fault(Effect.RESET, "complete COMMIT", TO_CLIENT, nth=8),
            Fault(Effect.RESET, "complete COMMIT", TO_CLIENT, nth=15),
        ),
    ),
    Act(
        "a worker's acks are lost on a half-open connection",
        WORKER,
        broker=(Fault(Effect.DEAF_SERVER, "basic.ack", nth=3),),
        events=("redelivered",),
    ),
    Act("a worker loses the database and keeps the broker", WORKER, do=_database_away),
    Act("a worker loses the broker and keeps the database", WORKER, do=_broker_away),
    Act("all processes of a worker are killed at once", WORKER, do=_killed_at_once),
    Act(
        "a relay that has lost the lead goes on",
        SERVICES,
        do=_overtaken,
        failpoint="relay.after_select:stop:2",
        events=("redelivered",),
    ),
]


verdicts = verdicts_of(run)


@pytest.mark.parametrize("cell", ACTS, ids=str)
def test_nothing_is_lost_and_nothing_happens_twice_when(cell: Act, verdicts: Verdicts[Act]) -> None:
    verdicts.expect_green(cell)
