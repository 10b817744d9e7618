"""An application whose task logs a line of its own, by plain logging and by structlog."""

import logging
import os

import structlog
from celery.signals import setup_logging
from celery.utils.log import get_task_logger

from reliable_tasks import ReliableCelery, TaskContext

app = ReliableCelery("logs", topology="topology:TOPOLOGY")

if os.environ.get("OWN_LOGGING"):

    @setup_logging.connect
    def own(**_: object) -> None:
        """What a user does who takes over Celery's logging."""
        logging.basicConfig(level=logging.INFO, format="OWN %(message)s")


@app.idempotent_task(key="say:{word}", effects="none", queue="payments")
def say(ctx: TaskContext, word: str) -> str:
    """Log a word in three ways."""
    logging.getLogger("bank").warning("plain %s", word)
    get_task_logger("bank.tasks").warning("celery's %s", word)
    structlog.get_logger("bank").warning("structured", word=word)
    return word
