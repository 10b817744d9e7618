"""A plain Celery application that only uses our result backend."""

import os

from celery import Celery

app = Celery("plain", broker=os.environ["PLAIN_BROKER"], backend=os.environ["PLAIN_BACKEND"])
app.conf.update(result_extended=True, task_default_queue="plain", task_track_started=True)


@app.task
def double(number: int) -> int:
    return number * 2


@app.task
def fail() -> None:
    raise ValueError("plainly")
