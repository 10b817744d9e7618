"""Idempotent tasks that call another system, which counts the calls and may go wrong."""

import os
import signal
from datetime import timedelta
from typing import Any

from reliable_tasks import CallAgain, Probe, TaskContext, TransientError
from tests.integration.celery_behaviour.app_with_marks import PLACE, QUICK, app, mark, wait_for


def call(name: str, mishap: str) -> str:
    """The other side: counts its calls, and lets the first one end as `mishap` says."""
    count = mark(f"{name}-called")
    if count > 1 or mishap == "none":
        return f"call {count}"
    if mishap == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if mishap == "hold":
        mark(f"{name}-began")
        wait_for(f"{name}-go")
    if mishap == "transient":
        raise TransientError("refused the connection")
    raise RuntimeError("the line was cut")


def ask(key: str, *, name: str, mishap: str) -> Any:
    mark(f"{name}-asked")
    answer = (PLACE / f"{name}-answer").read_text()
    return {"done": {"found": key}, "not": Probe.NOT_DONE, "unknown": Probe.UNKNOWN}[answer]


LEASE = timedelta(seconds=2)


@app.idempotent_task(key="tell:{name}", effects="external", retry=QUICK, lease=LEASE)
def tell(ctx: TaskContext, name: str, mishap: str) -> str:
    return call(name, mishap)


@app.idempotent_task(
    key="asked:{name}", effects="external", retry=QUICK, lease=LEASE, on_uncertain=Probe(ask)
)
def tell_and_ask(ctx: TaskContext, name: str, mishap: str) -> str:
    return call(name, mishap)


@app.idempotent_task(
    key="again:{name}", effects="external", retry=QUICK, lease=LEASE, on_uncertain=CallAgain()
)
def tell_again(ctx: TaskContext, name: str, mishap: str) -> str:
    return call(name, mishap)
