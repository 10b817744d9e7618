"""A broker that takes back what is held too long, or that takes nothing for want of memory."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from reliable_tasks.broker.publisher import Publisher
from reliable_tasks.dev import Stack
from reliable_tasks.errors import PublishUnconfirmed
from reliable_tasks.model.envelope import Message
from reliable_tasks.services.relay import Relay
from reliable_tasks.settings import Settings
from reliable_tasks.store import outbox
from reliable_tasks.store.engine import begin
from reliable_tasks.worker.runtime import Runtime
from tests.database import Database
from tests.deployment import Deployment
from tests.impatience import impatient
from tests.integration.applied_topology import TOPOLOGY
from tests.integration.crashing.conftest import APPLICATION
from tests.waiting import wait_until


@contextmanager
def without_memory(stack: Stack) -> Iterator[None]:
    """The broker has reached its limit, and lets nobody publish."""
    before = stack.broker.rabbitmqctl("eval", "vm_memory_monitor:get_vm_memory_high_watermark().").strip()
    stack.broker.rabbitmqctl("set_vm_memory_high_watermark", "absolute", "1")
    try:
        yield
    finally:
        stack.broker.rabbitmqctl("set_vm_memory_high_watermark", before)


def test_what_a_blocked_broker_does_not_confirm_is_unknown_and_stays_in_the_outbox(
    reliable_stack: Stack, settings: Settings, engine: Any, applied_shape: None, channel: Any
) -> None:
    route = Runtime(settings, TOPOLOGY).route
    message = Message("a", "pay", "", "", "default", b"[[], {}, {}]", {"id": "a", "task": "pay"})
    publisher = Publisher(settings.broker.url_text(), route, deadline_seconds=2)
    with closing(Relay(engine, publisher)) as relay:
        with without_memory(reliable_stack):
            with begin(engine) as connection:
                outbox.add(connection, [message])
            assert [type(error) for error in publisher.publish_all([message])] == [PublishUnconfirmed]
            assert relay.run_once() == 0
            with begin(engine) as connection:
                assert outbox.waiting(connection) == 1
        wait_until(relay.run_once, "it is sent when there is memory again")
        with begin(engine) as connection:
            assert outbox.waiting(connection) == 0
    # perhaps more than once, under one id: the claim lets one of them begin
    taken = [channel.basic_get("default", auto_ack=True)[1].message_id]
    assert taken == ["a"]


def test_a_task_that_is_longer_than_the_broker_waits_runs_once(
    reliable_stack: Stack, deployment: Deployment, database: Database, send: Any, tmp_path: Path
) -> None:
    """The broker closes the channel and delivers the message again, while the task still runs."""
    with (
        impatient(reliable_stack),
        deployment.services(APPLICATION),
        deployment.worker(APPLICATION, "patient", "-c", "2"),
    ):
        task_id = send("pay_slowly", "a", str(tmp_path / "gate"))
        wait_until(lambda: "busy" in database.suppressed(task_id), "it is delivered again", 60)
        (tmp_path / "gate").touch()
        database.until(task_id, "succeeded")
        after = send("pay", "b")
        database.until(after, "succeeded", 60)
    assert (database.effects("a"), database.effects("b")) == (1, 1)
    assert [row["state"] for row in database.attempts(task_id)] == ["succeeded"]
