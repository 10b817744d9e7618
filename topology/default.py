"""Everything that names no queue, Celery's own tasks (such as celery.chord_unlock) included."""

from reliable_tasks.model.shape import DeadLetter, Queue
from topology.exchanges import COMMANDS, DEAD_LETTERS

DEFAULT = Queue(
    "default",
    exchange=COMMANDS,
    dead_letter=DeadLetter(DEAD_LETTERS, "default.dead"),
)
