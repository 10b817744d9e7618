"""What becomes of a delivery whose execution has lost its key to another, or was cancelled meanwhile."""

from dataclasses import replace

from reliable_tasks.model.states import TaskState
from reliable_tasks.store import attempts, claims, outbox, results
from reliable_tasks.store.engine import begin, database_now
from reliable_tasks.worker.call import Delivery
from reliable_tasks.worker.rows import now
from reliable_tasks.worker.runtime import Runtime


def note_fenced(runtime: Runtime, delivery: Delivery) -> None:
    """Note it. When the key is another task's now, this one comes again: it ends as that one's duplicate.

    The owner records its own end and no other's: without that, a task that was overtaken would run for ever.
    """
    with begin(runtime.engine) as connection:
        attempts.suppress(connection, delivery.task_id, delivery.task_name, None, "fenced")
        stored = results.get(connection, delivery.task_id)
        if stored is None or stored["state"] != TaskState.RUNNING or not stored["idempotency_key"]:
            return
        claim = claims.get(connection, delivery.task_name, stored["idempotency_key"])
        if claim is None or claim["task_id"] == delivery.task_id:
            return
        again = replace(delivery.message_begun(), due_at=claim["lease_until"] or database_now(connection))
        outbox.add(connection, [runtime.signer.sign_again(again, now())])
