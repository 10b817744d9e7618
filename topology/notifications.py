"""Messages to banks and customers: the other side may be slow or down, so apart from payments."""

from reliable_tasks.model.shape import DeadLetter, Queue
from topology.exchanges import COMMANDS, DEAD_LETTERS

NOTIFICATIONS = Queue(
    "notifications",
    exchange=COMMANDS,
    dead_letter=DeadLetter(DEAD_LETTERS, "notifications.dead"),
)
