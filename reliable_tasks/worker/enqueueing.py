"""The rows that make an enqueued task visible before any worker has seen it."""

import json
from typing import Any

from reliable_tasks.model.envelope import Message
from reliable_tasks.model.states import TaskState
from reliable_tasks.store.enqueued import enqueued_statements
from reliable_tasks.worker.rows import readable, request_columns


def enqueue_statements(messages: list[Message]) -> list[Any]:
    """INSERTs for the caller's transaction: one result row in state `enqueued` per message."""
    found: list[Any] = []
    for message in messages:
        body = json.loads(message.body)
        columns = request_columns(message.headers, message.queue, readable(body[0]), readable(body[1]))
        columns["priority"] = message.priority
        found += enqueued_statements(message.task_id, {**columns, "state": TaskState.ENQUEUED.value})
    return found
