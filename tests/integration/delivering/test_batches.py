"""Several tasks in one transaction: each ends as it would have by itself, whatever the others do."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery.app.trace import build_tracer
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ResourceClosedError

from reliable_tasks import PermanentError, TaskContext
from reliable_tasks.store import results
from reliable_tasks.store.engine import begin
from reliable_tasks.store.identity import new_id
from reliable_tasks.worker import ahead
from reliable_tasks.worker.rows import now
from tests.integration.delivering.one_delivery import deliver, deliver_all, rows, sent, states
from tests.integration.delivering.test_own_transactions import ENDS
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.parametrize("app", ["usual"], indirect=True),
    pytest.mark.filterwarnings("ignore:Exception raised outside body"),
]

EFFECTS = "SELECT name FROM effects ORDER BY name"
LOCKED = "SELECT name FROM effects WHERE name LIKE 'locked%' FOR UPDATE"
Act = Callable[[TaskContext, str], Any]


@pytest.fixture
def doing(app: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Act]:
    """What the task `act` does in addition, by its case, after it has left its effect; time is no matter."""
    monkeypatch.setattr(ahead, "BUDGET_SECONDS", 60.0)
    acts: dict[str, Act] = {}

    def run(ctx: TaskContext, case: str, amount: int = 1) -> Any:
        ctx.session.execute(text("INSERT INTO effects VALUES (:case)"), {"case": case})
        return acts[case](ctx, case) if case in acts else case

    task = app.idempotent_task(key="act:{case}", effects="database", name="act", batch=10, shared=False)(run)
    task.__trace__ = build_tracer("act", task, app.loader, "here", app=app)
    return acts


def effects(app: Any) -> list[str]:
    return [row["name"] for row in rows(app, EFFECTS)]


def transactions(app: Any) -> int:
    (found,) = rows(app, "SELECT count(DISTINCT xmin::text) FROM reliable_tasks.results")
    return int(found["count"])


def test_ten_share_a_transaction_and_each_has_its_rows(app: Any, doing: dict[str, Act]) -> None:
    cases = [f"{number:02}" for number in range(12)]
    assert deliver_all("act", *((case,) for case in cases)) == ["ack"] * 12
    assert effects(app) == cases
    assert transactions(app) == 2
    for table in ("results", "claims", "attempts"):
        assert states(app, table) == ["succeeded"] * 12
    stored = rows(app, "SELECT result, idempotency_key FROM reliable_tasks.results ORDER BY idempotency_key")
    assert [bytes(row["result"]).decode() for row in stored] == [f'"{case}"' for case in cases]


def test_one_of_ten_that_fails_does_so_alone(app: Any, doing: dict[str, Act]) -> None:
    def fails(ctx: TaskContext, case: str) -> None:
        ctx.enqueue(app.tasks["plain"].s("of the failed"))
        raise PermanentError("no funds")

    def sends(ctx: TaskContext, case: str) -> None:
        ctx.enqueue(app.tasks["plain"].s(case))

    doing.update({"3": fails, "7": sends})
    assert deliver_all("act", *((str(number),) for number in range(10))) == [
        "reject" if number == 3 else "ack" for number in range(10)
    ]
    assert effects(app) == [str(number) for number in range(10) if number != 3]
    assert (transactions(app), sent(app)) == (2, ["plain['7']"])
    assert states(app, "attempts") == ["failed", *["succeeded"] * 9]
    assert [row["idempotency_key"] for row in rows(app, "SELECT * FROM reliable_tasks.dead_letters")] == [
        "act:3"
    ]


def test_a_key_that_comes_twice_among_ten_is_done_once(app: Any, doing: dict[str, Act]) -> None:
    assert deliver_all("act", ("a",), ("b",), ("a",), ("c",)) == ["ack"] * 4
    assert effects(app) == ["a", "b", "c"]
    assert states(app, "results") == ["duplicate", *["succeeded"] * 3]


def test_another_payload_under_the_key_of_one_among_ten_is_a_conflict(
    app: Any, doing: dict[str, Act]
) -> None:
    assert deliver_all("act", ("a", 1), ("a", 2), ("b", 1)) == ["ack", "reject", "ack"]
    assert effects(app) == ["a", "b"]
    assert states(app, "results") == ["dead", "succeeded", "succeeded"]


def test_one_that_was_cancelled_before_is_not_done_and_one_that_is_cancelled_meanwhile_neither(
    app: Any, doing: dict[str, Act]
) -> None:
    before, meanwhile, other = (str(new_id()) for _ in range(3))

    def cancel(task_id: str) -> None:
        with begin(app.runtime.engine) as connection:
            results.cancel(connection, task_id, finished_at=now())

    cancel(before)
    doing["c"] = lambda ctx, case: cancel(meanwhile)
    assert deliver_all("act", ("a",), ("b",), ("c",), ids=(before, meanwhile, other))[0] == "ack"
    assert effects(app) == ["c"]
    assert states(app, "results") == ["cancelled", "cancelled", "succeeded"]


def test_a_busy_key_among_ten_waits_and_the_others_do_not(app: Any, doing: dict[str, Act]) -> None:
    with app.runtime.engine.connect() as other:
        other.execute(
            text(
                "INSERT INTO reliable_tasks.claims (task_name, key, fingerprint, task_id, state) "
                "VALUES ('act', 'act:b', '', 'x', 'retry_wait')"
            )
        )
        assert deliver_all("act", ("a",), ("b",), ("c",)) == ["ack"] * 3
        assert effects(app) == ["a", "c"]
        assert sent(app) == ["act['b']"]
        other.rollback()


@pytest.mark.parametrize("minds", [True, False])
def test_who_waits_for_a_lock_holds_none_of_the_others_up(
    app: Any, doing: dict[str, Act], minds: bool
) -> None:
    def locks(ctx: TaskContext, case: str) -> str:
        try:
            with ctx.session.begin_nested():
                ctx.session.execute(text(LOCKED))
        except OperationalError:
            if minds:
                raise
            return "it was locked"
        return "it was free"

    doing["b"] = locks
    assert deliver(app, "act", "locked") == "ack"
    with app.runtime.engine.connect() as holder, ThreadPoolExecutor(1) as threads:
        holder.execute(text(LOCKED))
        answers = threads.submit(deliver_all, "act", ("a",), ("b",), ("c",))
        wait_until(lambda: effects(app) == ["a", "c", "locked"], "the others have committed", 30)
        holder.rollback()
        assert answers.result(30) == ["ack"] * 3
    assert effects(app) == ["a", "b", "c", "locked"]
    (stored,) = rows(app, "SELECT result FROM reliable_tasks.results WHERE idempotency_key = 'act:b'")
    assert bytes(stored["result"]) == b'"it was free"'


@pytest.mark.parametrize(
    "words",
    [
        "SET search_path = nowhere",
        "SET LOCAL search_path = nowhere",
        "SET ROLE pg_monitor",
        "SET LOCAL lock_timeout = 0",
    ],
)
def test_what_one_sets_is_not_set_for_the_next(app: Any, doing: dict[str, Act], words: str) -> None:
    found: dict[str, tuple[str, ...]] = {}

    def looks(ctx: TaskContext, case: str) -> None:
        query = "SELECT current_setting('search_path'), current_user, current_setting('lock_timeout')"
        found[case] = tuple(ctx.session.execute(text(query)).one())

    doing.update({"a": looks, "b": lambda ctx, case: ctx.session.execute(text(words)) and None, "c": looks})
    assert deliver_all("act", ("a",), ("b",), ("c",)) == ["ack"] * 3
    assert effects(app) == ["a", "b", "c"]
    assert (found["a"], transactions(app)) == (found["c"], 1)


@pytest.mark.parametrize("end", list(ENDS))
def test_one_that_ends_the_transaction_of_all_takes_none_of_the_others_with_it(
    app: Any, doing: dict[str, Act], end: str
) -> None:
    doing["b"] = lambda ctx, case: ENDS[end](ctx) and None
    assert deliver_all("act", ("a",), ("b",), ("c",)) == ["ack", "requeue", "ack"]
    assert effects(app) == ["a", "c"]
    assert states(app, "attempts") == ["succeeded", "succeeded"]


def test_what_one_has_left_behind_does_not_reach_into_the_next(app: Any, doing: dict[str, Act]) -> None:
    left: list[Any] = []

    def leaves(ctx: TaskContext, case: str) -> None:
        left.extend([ctx.session, ctx.session.connection()])

    def uses(ctx: TaskContext, case: str) -> None:
        for one in left:
            with pytest.raises(ResourceClosedError):
                one.execute(text("INSERT INTO effects VALUES ('from before')"))

    doing.update({"a": leaves, "b": uses})
    assert deliver_all("act", ("a",), ("b",)) == ["ack", "ack"]
    assert effects(app) == ["a", "b"]


def test_a_session_that_is_rolled_back_or_committed_does_so_for_its_own_task(
    app: Any, doing: dict[str, Act]
) -> None:
    def back(ctx: TaskContext, case: str) -> None:
        ctx.session.rollback()
        ctx.session.execute(text("INSERT INTO effects VALUES ('b, again')"))

    def commits(ctx: TaskContext, case: str) -> None:
        ctx.session.commit()
        ctx.session.execute(text("INSERT INTO effects VALUES ('c, undone')"))
        ctx.session.rollback()

    doing.update({"b": back, "c": commits})
    assert deliver_all("act", ("a",), ("b",), ("c",), ("d",)) == ["ack"] * 4
    assert effects(app) == ["a", "b, again", "c", "d"]
    assert transactions(app) == 1


def test_what_only_the_commit_refuses_is_refused_to_the_one_that_has_done_it(
    app: Any, doing: dict[str, Act]
) -> None:
    with begin(app.runtime.engine) as connection:
        connection.execute(text("CREATE TABLE once (name text UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        connection.execute(text("INSERT INTO once VALUES ('b')"))
    doing["b"] = lambda ctx, case: ctx.session.execute(text("INSERT INTO once VALUES ('b')")) and None
    answers = deliver_all("act", ("a",), ("b",), ("c",))
    assert (answers[0], answers[2]) == ("ack", "ack")
    assert effects(app) == ["a", "c"]


def test_who_has_not_begun_when_the_time_is_over_is_given_back(
    app: Any, doing: dict[str, Act], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "BUDGET_SECONDS", 0.05)
    doing["a"] = lambda ctx, case: ctx.session.execute(text("SELECT pg_sleep(0.2)")) and None
    assert deliver_all("act", ("a",), ("b",)) == ["ack", None]
    assert effects(app) == ["a"]
    assert states(app, "claims") == ["succeeded"]
