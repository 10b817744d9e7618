"""A cluster of three loses nodes under load, and nothing is lost and nothing happens twice: the checker judges.

`make test-brokers` runs it, as root on RabbitMQ 4.3; its name keeps it out of `make test`.
"""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack
from reliable_tasks.testing.names import session_prefix
from tests.chaos.cluster import Cluster, can_partition
from tests.chaos.provenance import SEED, provenance
from tests.chaos.running import Run
from tests.chaos.workload_plan import plan
from tests.deployment import Deployment
from tests.integration.applied_topology import TOPOLOGY, applied
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)  # nodes take their time to start and to part

COUNT = 300
PER_SECOND = 6.0
LATE = "late"
"""The gate of what is sent when everything is whole again."""

WORKERS = ("worker-0", "worker-1", "worker-2")
Fault = Callable[[Run, Cluster], None]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if not can_partition():
        pytest.skip("only root may cut nodes off, and it needs the program nft")
    with Cluster() as found:
        yield found


@pytest.fixture
def around(cluster: Cluster, reliable_stack: Stack, migrated_template: str, tmp_path: Path) -> Deployment:
    """The topology on the cluster, beside a database of the private stack."""
    name = f"{session_prefix()}cluster_{secrets.token_hex(4)}"
    url = cluster.create_vhost(name)
    management_url = ";".join(node.management_url for node in cluster.nodes)
    applied(TOPOLOGY, Management(management_url, url), url)
    database_url = reliable_stack.create_database(name, migrated_template)
    return Deployment(url, management_url, database_url, tmp_path, {"TESTS_VHOST": name})


def from_node(around: Deployment, number: int) -> dict[str, str]:
    """The same nodes, this one first: else all programs would be on the same."""
    urls = around.broker_url.split(";")
    return {"RELIABLE_TASKS_BROKER_URL": ";".join([*urls[number:], *urls[:number]])}


def effects(running: Run) -> int:
    with running.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM bank.effect_log").scalar_one())


def work_goes_on(running: Run) -> None:
    """Wait until more was done than can have been under way."""
    enough = effects(running) + 25
    wait_until(lambda: effects(running) >= enough, "work to go on", 90)


def vhost(running: Run) -> str:
    return running.around.variables["TESTS_VHOST"]


def a_node_is_killed(running: Run, cluster: Cluster) -> None:
    node = cluster.nodes[1]
    node.kill()
    work_goes_on(running)
    node.begin()
    node.wait_ready()


def the_leader_of_a_queue_is_killed(running: Run, cluster: Cluster) -> None:
    leader = cluster.leader(vhost(running), "payments")
    leader.kill()
    wait_until(lambda: cluster.leader(vhost(running), "payments") is not leader, "another leader", 60)
    work_goes_on(running)
    leader.begin()
    leader.wait_ready()


def the_leader_of_a_queue_is_cut_off_and_comes_back(running: Run, cluster: Cluster) -> None:
    with cluster.partition(cluster.leader(vhost(running), "payments")):
        work_goes_on(running)


def every_node_is_restarted_one_after_the_other(running: Run, cluster: Cluster) -> None:
    for node in cluster.nodes:
        cluster.restart(node)
        wait_until(cluster.caught_up, "the cluster to catch up", 120)


@pytest.mark.parametrize(
    "fault",
    [
        a_node_is_killed,
        the_leader_of_a_queue_is_killed,
        the_leader_of_a_queue_is_cut_off_and_comes_back,
        every_node_is_restarted_one_after_the_other,
    ],
    ids=lambda fault: fault.__name__.replace("_", " "),
)
def test_nothing_is_lost_and_nothing_happens_twice_when(
    cluster: Cluster, reliable_stack: Stack, around: Deployment, fault: Fault
) -> None:
    name = fault.__name__.replace("_", " ")
    sends = plan(f"{SEED} {name}", COUNT, leave_out=("crash",))
    late = len(sends) * 3 // 4
    sends = [*sends[:late], *({**send, "gate": LATE} for send in sends[late:])]
    with Run(around, sends, producers=2) as running:
        running.history.say("run", cell=name, **provenance(SEED, reliable_stack))
        running.history.say("scheduled", fault=name)
        running.start_services(**from_node(around, 0))
        for number, worker in enumerate(WORKERS):
            running.start_worker(worker, **from_node(around, number))
        running.wait_ready(*WORKERS)
        running.start_producers(PER_SECOND / 2)
        running.supervise()
        wait_until(lambda: effects(running) > 5, "work is under way", 60)
        fault(running, cluster)
        running.history.say("fired", fault=name, inside=True)
        wait_until(cluster.caught_up, "the cluster to catch up", 120)
        running.history.say("gate", name=LATE)
        wait_until(running.all_sent, "everything is sent", 180)
        running.drain()
        verdict: dict[str, Any] = running.judge("--drain-seconds", "120", "--broker-seconds", "90")
        assert not verdict["red"], f"{verdict['table']}\n{running.folder}"
        seen = _workers_of_late_tasks(running)
        assert seen == set(WORKERS), f"after it only {seen} have worked; {running.folder}"


def _workers_of_late_tasks(running: Run) -> set[str]:
    opened = next(line["at"] for line in running.history.lines() if line["op"] == "gate")
    query = "SELECT DISTINCT worker FROM reliable_tasks.attempts WHERE started_at > to_timestamp(%s)"
    with running.engine.connect() as connection:
        found = connection.exec_driver_sql(query, (opened,)).scalars()
        return {str(worker).partition("@")[0] for worker in found}


def test_every_declared_queue_has_a_member_on_each_of_three_nodes(
    cluster: Cluster, around: Deployment
) -> None:
    queues = cluster.queues(around.variables["TESTS_VHOST"])
    assert len(queues) > 3
    everywhere = {node.full_name for node in cluster.nodes}
    assert {queue["name"]: set(queue["members"]) for queue in queues} == {
        queue["name"]: everywhere for queue in queues
    }
