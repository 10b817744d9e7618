"""This deployment's broker shape: one file per lane, each with its dead-letter side."""

from reliable_tasks.model.shape import Exchange, Topology
from topology.default import DEFAULT
from topology.exchanges import COMMANDS, DEAD_LETTERS
from topology.notifications import NOTIFICATIONS
from topology.payments import PAYMENTS

TOPOLOGY = Topology(
    # direct: a command's routing key is the name of its queue, and nothing else may match it
    exchanges=(Exchange(COMMANDS, "direct"), Exchange(DEAD_LETTERS, "direct")),
    queues=(PAYMENTS, NOTIFICATIONS, DEFAULT),
    default_queue=DEFAULT.name,
)
