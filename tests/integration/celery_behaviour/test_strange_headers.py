"""Messages of foreign senders: headers that Celery would trust end one message, and never the worker."""

import json
from contextlib import closing
from typing import Any

import pika
import pytest

from tests.database import Database
from tests.deployment import Deployment

STRANGE: dict[str, dict[str, Any]] = {
    "limit": {"timelimit": 5},
    "limits": {"timelimit": ["a", "b"]},
    "retries": {"retries": "x"},
    "stamps": {"stamped_headers": 5},
    "expires": {"expires": "nonsense"},
    "root": {"root_id": 5},
}


def send(around: Deployment, task: Any, task_id: str, **headers: Any) -> None:
    body = json.dumps([[task_id], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    properties = pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id=task_id,
        delivery_mode=2,
        headers={"id": task_id, "task": task.name, **headers},
    )
    with closing(pika.BlockingConnection(pika.URLParameters(around.broker_url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", "default", body.encode(), properties, mandatory=True)


@pytest.mark.parametrize("strange", STRANGE.values(), ids=list(STRANGE))
def test_a_strange_header_is_a_dead_letter_and_the_worker_goes_on(
    tasks: Any, running: Any, around: Deployment, database: Database, unique: str, strange: dict[str, Any]
) -> None:
    send(around, tasks.pay, unique, **strange)
    database.until(unique, "dead")
    assert database.dead_letter(unique)["reason"] == "rejected"
    send(around, tasks.pay, f"{unique}-next")
    database.until(f"{unique}-next", "succeeded")
    assert running.poll() is None


def test_an_expired_task_whose_result_nobody_wants_is_recorded(
    tasks: Any, around: Deployment, database: Database, unique: str
) -> None:
    send(around, tasks.pay, unique, expires="2020-01-01T00:00:00+00:00", ignore_result=True)
    assert database.until(unique, "expired")["finished_at"] is not None
    assert database.effects(unique) == 0
