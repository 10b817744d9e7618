"""Tasks that share a transaction, in workers that die and that meet each other."""

from typing import Any

from tests.database import Database
from tests.deployment import Deployment
from tests.integration.together.conftest import APPLICATION

SUCCEEDED = "SELECT count(*) FROM reliable_tasks.results WHERE state = 'succeeded'"
TRANSACTIONS = "SELECT count(DISTINCT xmin::text) FROM reliable_tasks.results"


def test_tasks_with_an_effect_share_transactions(
    deployment: Deployment, database: Database, send: Any, pool: tuple[str, ...]
) -> None:
    send(*(("pay_in_batches", f"b{number}", number) for number in range(120)))
    with deployment.worker(APPLICATION, "worker", *pool):
        database.wait_for(SUCCEEDED, 120)
    assert database.one(TRANSACTIONS) < 115  # how many depends on how long each takes
    assert database.one("SELECT count(DISTINCT key) FROM effects") == 120


def test_a_process_that_is_killed_within_a_batch_leaves_nothing_of_it_and_all_are_done(
    deployment: Deployment, database: Database, send: Any
) -> None:
    send(*(("kill_batch", f"k{number}", number) for number in range(20)))
    with deployment.worker(APPLICATION, "worker", "-c", "1"):
        database.wait_for(SUCCEEDED, 20)
    assert (deployment.place / "began-k5").read_text() == "xx"
    counts = database.rows("SELECT count(*) AS rows, count(DISTINCT key) AS keys FROM effects")
    assert counts == [{"rows": 20, "keys": 20}]


def test_batches_that_lock_the_same_rows_in_other_orders_do_not_end_in_deadlocks(
    deployment: Deployment, database: Database, send: Any
) -> None:
    database.rows("CREATE TABLE accounts (id int PRIMARY KEY, moved int NOT NULL DEFAULT 0)")
    database.rows("INSERT INTO accounts (id) SELECT generate_series(0, 10)")
    numbers = [number * 5 for number in range(100)]
    send(*(("move", f"m{number}", number) for number in numbers))
    with deployment.worker(APPLICATION, "worker", "-c", "2"):
        database.wait_for(SUCCEEDED, 100)
    moved = sum(len({number % 7, number % 11}) for number in numbers)
    assert database.one("SELECT sum(moved) FROM accounts") == moved
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert database.one(deadlocks) == 0
