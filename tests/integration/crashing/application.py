"""Tasks whose worker dies with them, and those that were taken beside them."""

import os
import signal
from pathlib import Path
from threading import Event

from sqlalchemy import text

from reliable_tasks import ReliableCelery, TaskContext

app = ReliableCelery("crashing", topology="topology:TOPOLOGY")


@app.idempotent_task(key="kill:{name}", effects="database", queue="payments", max_crashes=1)
def kill_all(ctx: TaskContext, name: str) -> None:
    """Ends the whole worker, parent and all, with what it has taken."""
    with (Path(os.environ["TESTS_PLACE"]) / f"{name}-began").open("a") as marks:
        marks.write("x")
    os.killpg(os.getpgrp(), signal.SIGKILL)


@app.idempotent_task(key="pay:{name}", effects="database", queue="payments", max_crashes=1)
def pay(ctx: TaskContext, name: str) -> str:
    """Leaves one effect."""
    ctx.session.execute(text("INSERT INTO effects (key) VALUES (:key)"), {"key": name})
    return name


@app.idempotent_task(key="slow:{name}", effects="database", queue="payments")
def pay_slowly(ctx: TaskContext, name: str, gate: str) -> str:
    """Leaves its effect, and waits for a file before it commits."""
    ctx.session.execute(text("INSERT INTO effects (key) VALUES (:key)"), {"key": name})
    never = Event()
    while not Path(gate).exists():
        never.wait(0.02)
    return name
