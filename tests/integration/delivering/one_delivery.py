"""One message given to the pool's function in this process, and what is in the database after it."""

import json
from collections.abc import Callable
from typing import Any

from celery.exceptions import Ignore, Reject
from sqlalchemy import text

from reliable_tasks import CallAgain, PermanentError, Retry, TaskContext, TransientError
from reliable_tasks.store.engine import begin
from reliable_tasks.store.identity import new_id
from reliable_tasks.worker.ahead import trace_together
from reliable_tasks.worker.trace import trace
from reliable_tasks.worker.usual import can_be_usual, is_usual

CALLS: list[str] = []
HOOKS: list[Callable[[str], None]] = []
"""What happens meanwhile, in the call."""

TOGETHER: list[bool] = []
"""Whether usual deliveries take the way of many."""

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
    given = _given(name, args, task_id, body, more)
    if TOGETHER and can_be_usual(app.tasks[name]) and is_usual(given[6], given[2]["delivery_info"]):
        (settlement,) = trace_together([given])
        assert settlement is not None
        return settlement
    return trace(*given)[1]


def deliver_all(name: str, *calls: tuple[Any, ...], ids: tuple[str, ...] = ()) -> list[str | None]:
    """Give usual messages of a task to the pool's function in one job; returns the settlements."""
    wanted = ids or (None,) * len(calls)
    return trace_together(
        [_given(name, args, task_id, None, {}) for args, task_id in zip(calls, wanted, strict=True)]
    )


def _given(
    name: str, args: tuple[Any, ...], task_id: str | None, body: bytes | None, more: dict[str, Any]
) -> tuple[Any, ...]:
    task_id = task_id or str(new_id())
    headers = {"id": task_id, "task": name, "root_id": task_id, **more.pop("headers", {})}
    info = {"routing_key": "default", **more.pop("info", {})}
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **more}
    body = body or json.dumps([args, {}, embed]).encode()
    request = {**headers, "delivery_info": info, "hostname": "here"}
    return name, task_id, request, body, "application/json", "utf-8", headers, None


def rows(app: Any, query: str) -> list[Any]:
    with begin(app.runtime.engine) as connection:
        return list(connection.execute(text(query)).mappings())


def states(app: Any, table: str) -> list[str]:
    return [row["state"] for row in rows(app, f"SELECT state FROM reliable_tasks.{table} ORDER BY state")]


def sent(app: Any) -> list[str]:
    found = rows(app, "SELECT * FROM reliable_tasks.outbox ORDER BY id")
    return [f"{row['task_name']}{json.loads(bytes(row['body']))[0]}" for row in found]
