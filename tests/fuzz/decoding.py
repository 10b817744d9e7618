"""The worker's way from a message to a call, as far as it touches nothing outside; and what may come of it."""

import os
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from kombu.message import Message as KombuMessage

from reliable_tasks import ReliableCelery, TaskContext
from reliable_tasks.broker.content_headers import readable
from reliable_tasks.errors import MessageRefused, Undecodable
from reliable_tasks.model.headers import check_headers
from reliable_tasks.settings import load_settings
from reliable_tasks.worker.call import Call, decode, delivery_of, verify
from reliable_tasks.worker.request import request_class
from reliable_tasks.worker.rows import readable as shown
from reliable_tasks.worker.rows import request_columns
from tests.integration.applied_topology import TOPOLOGY


class Kind(Enum):
    URGENT = "urgent"
    BATCH = "batch"


@dataclass
class Order:
    number: str
    amount: Decimal
    due: date


_before = dict(os.environ)
app = ReliableCelery(
    "fuzz",
    topology=TOPOLOGY,
    set_as_current=False,
    settings=load_settings(
        {
            "RELIABLE_TASKS_BROKER_URL": "amqp://nobody:x@127.0.0.1:9/",
            "RELIABLE_TASKS_DATABASE_URL": "postgresql://nobody:x@127.0.0.1:9/none",
        }
    ),
)
os.environ.clear()
os.environ.update(_before)  # an application tells Celery there where its services are


@app.idempotent_task(key="pay:{order}", effects="database", name="pay", shared=False)
def pay(ctx: TaskContext, order: str, amount: Decimal = Decimal(1)) -> None: ...


@app.idempotent_task(key="types:{order.number}", effects="none", name="types", shared=False)
def types(
    ctx: TaskContext,
    order: Order,
    amount: Decimal | None = None,
    day: date | None = None,
    moment: datetime | None = None,
    uid: UUID | None = None,
    kind: Kind = Kind.URGENT,
    rest: dict[str, list[Decimal]] | None = None,
) -> None: ...


@app.task(name="plain", shared=False)
def plain(*args: Any, **kwargs: Any) -> None: ...


app.finalize()
TASKS = ("pay", "types", "plain")
_REQUESTS = {name: request_class(app.tasks[name], None, print) for name in TASKS}


def take(body: bytes, headers: dict[str, Any], properties: dict[str, Any]) -> Call | None:
    """What the worker makes of a message: a call, or None when it is refused; nothing else may come out.

    The columns of its result are made as well: they must be what Postgres can hold.
    """
    try:
        check_headers(headers)
    except Undecodable:
        return None
    message = KombuMessage(
        body,
        content_type=properties.get("content_type"),
        content_encoding=properties.get("content_encoding"),
        delivery_info={"exchange": "commands", "routing_key": "default", "redelivered": False},
        properties=properties,
        headers={name: value for name, value in headers.items() if name != "compression"},
    )
    if headers["task"] not in TASKS:
        return None
    request = _REQUESTS[headers["task"]](
        message, app=app, task=app.tasks[headers["task"]], hostname="here", utc=True
    )
    delivery = delivery_of(app, *request.pool_arguments())
    task = app.tasks[delivery.task_name]
    try:
        verify(app.runtime, delivery)
        call = decode(delivery, task)
    except MessageRefused:
        request_columns(delivery.request, delivery.queue, [], {})
        return None
    shown(call.args), shown(call.kwargs)
    request_columns(delivery.request, delivery.queue, call.args, call.kwargs)
    assert call.options is None or call.key
    return call


def take_content_header(payload: bytes) -> bytes | None:
    """What is made of a content header that no library could read."""
    try:
        return readable(payload)
    except ValueError:
        return None
