"""The queue and the messages of the raw measurements: persistent, and about as large as a task's."""

import json
import uuid
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp

from bench import bank, clean
from bench.addresses import VHOST, addresses

QUEUE = "raw"
PERSISTENT = 2


def body(serial: int) -> bytes:
    """300 bytes of JSON."""
    task = {"id": str(uuid.UUID(int=serial)), "task": "bench.work", "args": [serial % bank.ACCOUNTS, 1]}
    return json.dumps({**task, "kwargs": {}, "pad": "x" * 190}).encode()


def connection() -> Any:
    """py-amqp's, connected to the vhost."""
    parts = urlsplit(addresses().amqp)
    opened = amqp.Connection(
        host=f"{parts.hostname}:{parts.port}",
        userid=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        virtual_host=VHOST,
    )
    opened.connect()
    return opened


def fresh_queue(kind: str) -> None:
    """An empty quorum or classic queue in an empty vhost."""
    clean.fresh_vhost()
    opened = connection()
    arguments = {"x-queue-type": kind}
    opened.channel().queue_declare(QUEUE, durable=True, auto_delete=False, arguments=arguments)
    opened.close()


def ready() -> int:
    """How many messages wait."""
    opened = connection()
    count = int(opened.channel().queue_declare(QUEUE, passive=True).message_count)
    opened.close()
    return count
