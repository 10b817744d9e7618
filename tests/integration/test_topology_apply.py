"""`reliable-tasks topology` against a real broker: it creates what is declared and touches nothing else."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pika
import pika.exceptions
import pytest

from reliable_tasks.broker.management import Management
from reliable_tasks.broker.passive import missing_queues
from reliable_tasks.dev import Stack
from reliable_tasks.errors import BrokerUnreachable, OperationRefused, TopologyDrift
from reliable_tasks.model.physical import Physical
from reliable_tasks.operate import topology as operate
from tests.integration.applied_topology import TOPOLOGY, applied, take
from tests.programs import Done, reliable_tasks

QUORUM = {"x-queue-type": "quorum"}
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def cli(*words: str, url: str, management_url: str) -> Done:
    """Run `reliable-tasks topology` as a person's script would."""
    own = {"RELIABLE_TASKS_BROKER_URL": url, "RELIABLE_TASKS_MANAGEMENT_URL": management_url}
    return reliable_tasks("topology", *words, **own)


def steps_of(done: Done) -> list[dict[str, str]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def shape_of(live: Physical) -> Any:
    """What is there, as a value that does not depend on the order of answers."""
    return tuple(sorted(map(repr, (*live.exchanges, *live.queues, *live.bindings))))


def test_plan_apply_plan_apply(reliable_stack: Stack, fresh_vhost: str, management: Management) -> None:
    at = {"url": fresh_vhost, "management_url": reliable_stack.management_url}
    before = cli("plan", "--detailed-exitcode", "--output", "json", **at)
    assert before.returncode == 2, before.stderr
    assert {step["action"] for step in steps_of(before)} == {"create"}
    assert cli("plan", **at).returncode == 0

    first = cli("apply", "--yes", **at)
    assert first.returncode == 0, first.stderr
    live = management.live()

    after = cli("plan", "--detailed-exitcode", "--output", "json", **at)
    assert after.returncode == 0, after.stderr
    assert {step["action"] for step in steps_of(after)} == {"same"}
    again = cli("apply", "--yes", **at)
    assert again.returncode == 0, again.stderr
    assert shape_of(management.live()) == shape_of(live)


def test_apply_asks_and_does_nothing_when_nobody_can_answer(
    reliable_stack: Stack, fresh_vhost: str, management: Management
) -> None:
    done = cli("apply", url=fresh_vhost, management_url=reliable_stack.management_url)
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert management.live() == Physical()


def test_show_tells_what_is_missing_and_what_is_there(
    reliable_stack: Stack, fresh_vhost: str, management: Management
) -> None:
    at = {"url": fresh_vhost, "management_url": reliable_stack.management_url}
    rows = steps_of(cli("show", "--output", "json", **at))
    assert {row["state"] for row in rows} == {"missing"}
    applied(TOPOLOGY, management, fresh_vhost)
    rows = steps_of(cli("show", "--output", "json", **at))
    assert {row["state"] for row in rows} == {"live"}
    assert {row["dead_letters_to"] for row in rows if row["role"] == "work"} == {
        "payments.dead",
        "notifications.dead",
        "default.dead",
    }


def test_immutable_difference_is_refused_and_nothing_is_changed(
    reliable_stack: Stack, fresh_vhost: str, management: Management, channel: Any
) -> None:
    channel.queue_declare("default", durable=True, arguments={**QUORUM, "x-delivery-limit": 5})
    before = management.live()
    at = {"url": fresh_vhost, "management_url": reliable_stack.management_url}
    for words in (("plan", "--detailed-exitcode"), ("apply", "--yes")):
        done = cli(*words, "--output", "json", **at)
        assert done.returncode == (2 if words[0] == "plan" else 1), done.stderr
        (different,) = (step for step in steps_of(done) if step["action"] == "differs")
        assert different["name"] == "default"
        assert "x-delivery-limit is 5, declared 100" in different["detail"]
    assert "error[RT204]" in done.stderr
    assert "Traceback" not in done.stderr
    assert management.live() == before


def test_difference_that_comes_after_the_plan_is_named(
    fresh_vhost: str, management: Management, channel: Any
) -> None:
    plan = operate.plan(TOPOLOGY, management)
    channel.queue_declare("default", durable=True, arguments={**QUORUM, "x-delivery-limit": 5})
    rows: list[dict[str, Any]] = []
    with pytest.raises(TopologyDrift, match="default is there with other properties: x-d"):
        operate.apply(plan, fresh_vhost, record=rows.append)
    assert [row["outcome"] for row in rows] == ["started", "failed"]
    assert "payments" in rows[1]["items"]
    assert "default" not in rows[1]["items"]


def test_what_is_not_declared_is_left_alone(fresh_vhost: str, management: Management, channel: Any) -> None:
    channel.queue_declare("theirs", durable=True, arguments=QUORUM)
    channel.basic_publish("", "theirs", b"kept", PERSISTENT, mandatory=True)
    rows = applied(TOPOLOGY, management, fresh_vhost)
    assert [row["outcome"] for row in rows] == ["started", "done"]
    assert rows[0]["topology_digest"] == TOPOLOGY.digest()
    plan = operate.plan(TOPOLOGY, management)
    assert [step.name for step in plan.having("extra")] == ["theirs"]
    assert take(channel, "theirs")[2] == b"kept"


@pytest.fixture
def powerless(reliable_stack: Stack, fresh_vhost: str) -> Iterator[tuple[str, str]]:
    """Name and URL of a broker user who may write and read, but configure nothing."""
    name, password = f"powerless_{secrets.token_hex(4)}", "secret-" + secrets.token_hex(8)
    parameters = pika.URLParameters(fresh_vhost)
    reliable_stack.create_user(name, password, parameters.virtual_host, "^$", ".*", ".*", "")
    place = fresh_vhost.partition("@")[2]
    yield name, f"amqp://{name}:{password}@{place}"
    reliable_stack.broker.management.delete_user(name)


def test_missing_queues_are_found_without_the_right_to_configure(
    fresh_vhost: str, management: Management, powerless: tuple[str, str]
) -> None:
    names = ["payments", "nowhere", "default", "neither"]
    assert missing_queues(powerless[1], names) == names
    applied(TOPOLOGY, management, fresh_vhost)
    assert missing_queues(powerless[1], names) == ["nowhere", "neither"]


def test_user_without_rights_is_told_which(
    reliable_stack: Stack, management: Management, powerless: tuple[str, str]
) -> None:
    name, url = powerless
    with pytest.raises(OperationRefused, match=f"{name} may not declare commands") as caught:
        operate.apply(operate.plan(TOPOLOGY, management), url, record=lambda row: None)
    assert "configure" in caught.value.hint
    with pytest.raises(BrokerUnreachable, match=f"{name} may not use the management API") as told:
        operate.plan(TOPOLOGY, Management(reliable_stack.management_url, url))
    assert "monitoring" in told.value.hint
    assert management.live() == Physical()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("vhost", "%2Fnone-of-ours"), "no vhost /none-of-ours"),
        (("password", "wrong-secret"), "refused user"),
        (("management", "http://127.0.0.1:1"), "does not answer"),
        (("management", ""), "management API is not known"),
    ],
)
def test_wrong_settings_are_one_line_with_a_hint(
    reliable_stack: Stack, fresh_vhost: str, change: tuple[str, str], message: str
) -> None:
    parts = pika.URLParameters(fresh_vhost)
    user, password = parts.credentials.username, parts.credentials.password
    what, value = change
    vhost = value if what == "vhost" else fresh_vhost.rpartition("/")[2]
    secret = value if what == "password" else password
    url = f"amqp://{user}:{secret}@{parts.host}:{parts.port}/{vhost}"
    at = {"url": url, "management_url": value if what == "management" else reliable_stack.management_url}
    plain = cli("plan", **at)
    assert plain.returncode == (1 if "not known" in message else 7)
    assert message in plain.stderr
    assert "hint:" in plain.stderr
    assert "Traceback" not in plain.stderr
    assert secret not in plain.stderr + plain.stdout
    assert cli("plan", "--detailed-exitcode", **at).returncode == 1


def test_any_error_of_a_detailed_plan_ends_with_one(reliable_stack: Stack, fresh_vhost: str) -> None:
    at = {"url": fresh_vhost, "management_url": reliable_stack.management_url}
    for words in (
        ("--bogus",),
        ("--output", "xml"),
        ("--topology", "nowhere:T"),
        ("--topology", "json:dumps"),
    ):
        done = cli("plan", "--detailed-exitcode", *words, **at)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert "Traceback" not in done.stderr


def test_health_names_what_is_wrong(reliable_stack: Stack, fresh_vhost: str, management: Management) -> None:
    assert management.health() == []
    (problem,) = Management("http://127.0.0.1:1", fresh_vhost).health()
    assert "does not answer" in problem
    assert management.version() == reliable_stack.rabbitmq_version


def test_secrets_are_not_in_representations(fresh_vhost: str, management: Management) -> None:
    password = pika.URLParameters(fresh_vhost).credentials.password
    assert password not in repr(management)
