"""Faults of the random tier that happen to the broker, and to the disk below broker and database."""

import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pika
from pika.exceptions import AMQPError

from reliable_tasks.dev.rabbitmq import ADMINISTRATOR
from tests.chaos.broker_faults import (
    everybody_connects_anew,
    full_queues,
    of_all_nodes,
    paused,
    without_bindings,
)
from tests.chaos.random_field import PATIENCE_SECONDS, Entry, Field
from tests.chaos.scenario_faults import PAYMENTS

_BLOCK = 1 << 20


def _broker_killed(field: Field) -> bool:
    field.stack.broker.kill()
    moment = time.time()
    noticed = field.wait(lambda: field.not_accepted(moment), 10)
    field.stack.broker.start()
    return noticed or field.count("reliable_tasks.outbox") > 0


def _broker_restarted(field: Field) -> bool:
    field.stack.broker.restart()
    return True


def _broker_stands_still(field: Field) -> bool:
    moment = time.time()
    with paused(field.stack):
        field.hold(1.5, 4.0)
    return field.wait(lambda: field.not_accepted(moment) or field.begins(moment) > 0, 5)


def _alarm(raise_it: tuple[str, ...], lower_it: tuple[str, ...]) -> Callable[[Field], bool]:
    def act(field: Field) -> bool:
        broker = field.stack.broker
        broker.rabbitmqctl(*raise_it)
        try:
            alarmed = field.wait(lambda: not broker.management.healthy())
            field.hold(2.0, 5.0)
        finally:
            broker.rabbitmqctl(*lower_it)
        return field.wait(broker.management.healthy, 60) and alarmed

    return act


def _queues_full(field: Field) -> bool:
    moment = time.time()
    with full_queues(field.run.around, PAYMENTS):
        return field.wait(
            lambda: field.not_accepted(moment) or field.count("reliable_tasks.outbox WHERE tries > 0")
        )


def _bindings_gone(field: Field) -> bool:
    moment = time.time()
    with without_bindings(field.run.around, "commands"):
        return field.wait(
            lambda: field.not_accepted(moment) or field.count("reliable_tasks.outbox WHERE tries > 0")
        )


def _dead_letter_queues_gone(field: Field) -> bool:
    with without_bindings(field.run.around, "dead-letters"):
        died = field.wait(lambda: field.count("reliable_tasks.dead_letters WHERE collected_at IS NULL") > 0)
        field.hold(1.0, 3.0)
    return died


def _credentials_refused(field: Field) -> bool:
    """The password is another one for a while, and everybody has to connect anew."""
    broker = field.stack.broker
    right = field.stack._state.broker.password
    broker.rabbitmqctl("change_password", ADMINISTRATOR, f"not {right}")
    try:
        everybody_connects_anew(field.stack)
        refused = field.wait(lambda: not _connects(field.run.around.broker_url))
        field.hold(1.0, 3.0)
    finally:
        broker.rabbitmqctl("change_password", ADMINISTRATOR, right)
    return refused


def _connects(url: str) -> bool:
    try:
        with closing(pika.BlockingConnection(of_all_nodes(url))):
            return True
    except AMQPError:
        return False


def _disk_full(field: Field) -> bool:
    """Nothing more fits on the disk of broker and database; what dies of it is started again when there is room."""
    assert field.disk is not None
    moment = time.time()
    ballast = field.disk / "ballast"
    _fill(ballast)
    try:
        noticed = field.wait(lambda: _suffers(field, moment), 20)
        field.hold(1.0, 3.0)
    finally:
        ballast.unlink()
    field.wait(lambda: _revived(field), PATIENCE_SECONDS * 4)
    freed = time.time()
    if not field.wait(lambda: field.begins(freed) > 0, 15):
        # seen on 3.10.8: the node runs, and its quorum queues do not come back by themselves
        field.run.history.say("broker restarted by hand", after="its disk was full")
        # in order, it would not end
        field.stack.broker.kill(settle_seconds=0)
        field.stack.broker.start()
    return noticed


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (_BLOCK, 4096):
            with suppress(OSError):
                while file.write(b"\0" * size) == size:
                    pass


def _suffers(field: Field, moment: float) -> bool:
    alive = field.stack.broker.running and field.stack.database.running
    return not alive or field.not_accepted(moment) or not field.stack.broker.management.healthy()


def _revived(field: Field) -> bool:
    for service in (field.stack.database, field.stack.broker):
        if not service.running:
            service.start()
    return field.stack.broker.management.healthy() and field.count("bank.accounts") > 0


BROKER = (
    Entry("the broker is killed", ("F9",), _broker_killed, needs=("single",)),
    Entry("the broker is restarted in order", ("F13",), _broker_restarted, needs=("single",)),
    Entry("the broker stands still, and confirms late", ("F6",), _broker_stands_still, needs=("single",)),
    Entry(
        "the broker is out of memory, and blocks who publishes",
        ("F11",),
        _alarm(("set_vm_memory_high_watermark", "absolute", "1MB"), ("set_vm_memory_high_watermark", "0.4")),
        needs=("single",),
    ),
    Entry(
        "the broker's disk alarm blocks who publishes",
        ("F12",),
        _alarm(("set_disk_free_limit", "900GB"), ("set_disk_free_limit", "50MB")),
        needs=("single",),
    ),
    Entry("queues are full", ("F7",), _queues_full),
    Entry("bindings are deleted", ("F8",), _bindings_gone),
    Entry("dead-letter queues cannot be reached", ("F32",), _dead_letter_queues_gone),
    Entry(
        "the broker refuses the password, and everybody connects anew",
        ("F38",),
        _credentials_refused,
        needs=("single",),
    ),
    Entry("the disk of broker and database is full", ("F12", "F22"), _disk_full, needs=("disk", "single")),
)
