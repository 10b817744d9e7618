"""One message given to the pool's function in this process, and what is in the database after it."""

import json
from collections.abc import Callable
from typing import Any

from celery.exceptions import Ignore, Reject
from sqlalchemy import text

from reliable_tasks import CallAgain, PermanentError, Retry, TaskContext, TransientError
from reliable_tasks.store.engine import begin
from reliable_tasks.store.identity import new_id
from reliable_tasks.worker.trace import trace

CALLS: list[str] = []
HOOKS: list[Callable[[str], None]] = []
"""What happens meanwhile, in the call."""

ENDINGS: list[str] = []
"""How the next executions of `pay` end, whatever their messages say."""


def finish(ctx: TaskContext, end: str, plain: Any) -> None:
    """End an execution in one of the many ways but returning."""
    if end == "say-failed":
        ctx.task.update_state(state="FAILURE", meta={"exc_type": "Refused", "exc_message": ["no funds"]})
    if end in ("ignore", "say-failed"):
        raise Ignore
    if end == "replace":
        raise ctx.task.replace(plain.s("instead"))
    if end == "permanent":
        raise PermanentError("no funds")
    if end == "again":
        raise TransientError("the other side is busy")
    if end == "reject":
        raise Reject("not now", requeue=True)


def declare_tasks(app: Any) -> None:
    @app.task(name="plain", shared=False)
    def plain(word: str = "") -> None: ...

    @app.idempotent_task(key="next:{number}", effects="none", name="next", shared=False)
    def following(ctx: TaskContext, number: int) -> None: ...

    @app.idempotent_task(key="pay:{order}", effects="database", name="pay", shared=False)
    def pay(ctx: TaskContext, order: str, end: str = "") -> str:
        ctx.session.execute(text("INSERT INTO effects VALUES (:o)"), {"o": order})
        ctx.enqueue(plain.s("sent"))
        finish(ctx, ENDINGS.pop(0) if ENDINGS else end, plain)
        if end == "unstorable":
            return object()  # type: ignore[return-value]
        return "paid"

    declare_others(app, plain)


def declare_others(app: Any, plain: Any) -> None:
    @app.idempotent_task(
        key="tell:{order}",
        effects="external",
        name="tell",
        shared=False,
        on_uncertain=CallAgain(),
        retry=Retry(max_attempts=2),
    )
    def tell(ctx: TaskContext, order: str) -> str:
        CALLS.append(order)
        for meanwhile in HOOKS:
            meanwhile(order)
        ctx.enqueue(plain.s("sent"))
        return "told"

    @app.idempotent_task(key="quiet:{order}", dead_letter=False, name="quiet", shared=False)
    def quiet(ctx: TaskContext, order: str) -> None:
        raise PermanentError("no funds")


def deliver(
    app: Any, name: str, *args: Any, task_id: str | None = None, body: bytes | None = None, **more: Any
) -> str:
    """Give one message to the pool's function; returns the settlement."""
    task_id = task_id or str(new_id())
    headers = {"id": task_id, "task": name, "root_id": task_id, **more.pop("headers", {})}
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **more}
    body = body or json.dumps([args, {}, embed]).encode()
    request = {
        **headers,
        "delivery_info": {"routing_key": "default", **more.pop("info", {})},
        "hostname": "here",
    }
    return trace(name, task_id, request, body, "application/json", "utf-8", headers, None)[1]


def rows(app: Any, query: str) -> list[Any]:
    with begin(app.runtime.engine) as connection:
        return list(connection.execute(text(query)).mappings())


def states(app: Any, table: str) -> list[str]:
    return [row["state"] for row in rows(app, f"SELECT state FROM reliable_tasks.{table} ORDER BY state")]


def sent(app: Any) -> list[str]:
    found = rows(app, "SELECT * FROM reliable_tasks.outbox ORDER BY id")
    return [f"{row['task_name']}{json.loads(bytes(row['body']))[0]}" for row in found]
