"""Payment orders. Three priorities: 0 batch files, 1 ordinary orders, 2 urgent ones."""

from reliable_tasks.model.shape import DeadLetter, Queue
from topology.exchanges import COMMANDS, DEAD_LETTERS

PAYMENTS = Queue(
    "payments",
    exchange=COMMANDS,
    levels=3,
    dead_letter=DeadLetter(DEAD_LETTERS, "payments.dead"),
)
