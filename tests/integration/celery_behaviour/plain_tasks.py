"""Plain Celery tasks."""

import os
import signal
from typing import Any

from celery import shared_task
from celery.exceptions import Reject, SoftTimeLimitExceeded

from tests.integration.celery_behaviour.app_with_marks import PLACE, app, mark, wait_for


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def echo(value: Any) -> Any:
    return value


@app.task(name="behaviour.tick")
def tick(name: str) -> int:
    return mark(f"tick-{name}")


@app.task
def leave(name: str, *_more: Any) -> str:
    mark(name)
    return name


@app.task
def hold(name: str) -> str:
    mark(f"{name}-began")
    wait_for(f"{name}-go")
    mark(f"{name}-ended")
    return name


@app.task
def fail(message: str) -> None:
    raise ValueError(message)


@app.task
def heard(failed_id: str, name: str) -> str:
    mark(name)
    return failed_id


@app.task(bind=True)
def who(self: Any) -> dict[str, Any]:
    return {
        "id": self.request.id,
        "name": self.name,
        "priority": self.request.rt_priority,
        "retries": self.request.retries,
    }


@app.task(bind=True, autoretry_for=(OSError,), retry_backoff=False, default_retry_delay=0.05, max_retries=3)
def unsteady(self: Any, name: str, failures: int) -> int:
    if mark(name) <= failures:
        raise OSError("not yet")
    return int(self.request.retries)


@app.task(bind=True, max_retries=2)
def tries(self: Any, name: str) -> None:
    mark(name)
    raise self.retry(exc=LookupError("never"), countdown=0.05)


@app.task(bind=True)
def progress(self: Any, name: str) -> str:
    self.update_state(state="PROGRESS", meta={"done": 3})
    wait_for(f"{name}-go")
    return "all"


@app.task(bind=True)
def where(self: Any, name: str) -> list[Any]:
    if mark(name) == 1:
        raise self.retry(countdown=0.05)
    return [2, self.request.rt_priority, self.request.delivery_info["routing_key"]]


@app.task(bind=True)
def replaced(self: Any, x: int, y: int) -> None:
    raise self.replace(add.s(x, y))


@app.task
def reject(message: str) -> None:
    raise Reject(message, requeue=False)


@app.task(rate_limit="20/s")
def limited(x: int) -> int:
    return x


@app.task
def die(name: str) -> None:
    mark(name)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def fail_until(name: str) -> str:
    if not (PLACE / f"{name}-good").exists():
        raise ValueError("not good yet")
    return name


@app.task(ignore_result=True)
def quiet(name: str) -> str:
    mark(name)
    return "not kept"


@app.task(soft_time_limit=1, time_limit=30)
def soft(name: str) -> str:
    try:
        wait_for(f"{name}-never")
    except SoftTimeLimitExceeded:
        return "stopped softly"
    return "not stopped"


@app.task(time_limit=1)
def hard(name: str) -> None:
    mark(f"{name}-began")
    wait_for(f"{name}-never")


@shared_task(name="behaviour.shared")
def shared(x: int) -> int:
    return x * 2
