"""The queue and the messages of the raw measurements: persistent, and about as large as a task's."""

import json
import uuid

from bench import bank, clean
from bench.depth import connection

QUEUE = "raw"
PERSISTENT = 2


def body(serial: int) -> bytes:
    """300 bytes of JSON."""
    task = {"id": str(uuid.UUID(int=serial)), "task": "bench.work", "args": [serial % bank.ACCOUNTS, 1]}
    return json.dumps({**task, "kwargs": {}, "pad": "x" * 190}).encode()


def fresh_queue(kind: str) -> None:
    """An empty quorum or classic queue in an empty vhost."""
    clean.fresh_vhost()
    opened = connection()
    arguments = {"x-queue-type": kind}
    opened.channel().queue_declare(QUEUE, durable=True, auto_delete=False, arguments=arguments)
    opened.close()
