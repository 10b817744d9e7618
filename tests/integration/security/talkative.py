"""An application that answers remote control, and whose tasks tell everything that they can reach."""

import logging
from typing import Any

from reliable_tasks import PermanentError, ReliableCelery, TaskContext

app = ReliableCelery("talkative", topology="topology:TOPOLOGY", remote_control=True)
log = logging.getLogger(__name__)


def everything() -> list[str]:
    """What a developer prints who looks for a fault."""
    runtime = app.runtime
    with app.connection() as connection:
        seen: list[Any] = [
            *(app, app.conf, dict(app.conf), app.conf.humanize(with_defaults=True), app.conf.table()),
            *(app.amqp, app.pool, app.backend, app.backend.as_uri(), vars(app.backend), app.control),
            *(
                runtime,
                runtime.settings,
                runtime.settings.model_dump(),
                runtime.settings.shown,
                runtime.signer,
            ),
            *(runtime.publisher, vars(runtime.publisher), runtime.engine, runtime.engine.url),
            *(connection, connection.as_uri(), connection.info().get("hostname"), app.bugreport()),
        ]
    return [text for one in seen for text in (repr(one), str(one))]


@app.idempotent_task(key="say:{name}", effects="database", queue="payments")
def say(ctx: TaskContext, name: str) -> list[str]:
    """Log and return all of it."""
    found = everything()
    log.warning("everything: %s", found)
    ctx.enqueue(confess.s(f"{name}-after"))
    return found


@app.idempotent_task(key="confess:{name}", effects="database", queue="payments")
def confess(ctx: TaskContext, name: str) -> None:
    """Die of all of it."""
    settings, engine, runtime = app.runtime.settings, app.runtime.engine, app.runtime
    raise PermanentError(f"{name} {everything()} {settings!r} {engine!r} {runtime!r} {ctx!r} {vars(ctx)!r}")


@app.task
def break_down(name: str) -> None:
    """A plain task that fails in SQL and on the broker."""
    from sqlalchemy import text

    with app.runtime.engine.begin() as connection:
        connection.execute(text("SELECT :name FROM nowhere"), {"name": name})


@app.task(queue="notifications")
def unheard() -> None:
    """Stays in its queue: nobody reads it."""
