"""How much is in the queues, asked of the queues themselves: the management API's numbers are seconds old."""

from collections.abc import Sequence

import pika
from pika.exceptions import AMQPError

from reliable_tasks.errors import BrokerUnreachable


def ready(broker_url: str, names: Sequence[str]) -> int:
    """Messages that wait in these queues; those that a worker has are not among them.

    Raises:
        BrokerUnreachable: when it does not answer.
    """
    try:
        connection = pika.BlockingConnection(pika.URLParameters(broker_url))
        try:
            channel = connection.channel()
            return sum(channel.queue_declare(name, passive=True).method.message_count for name in names)
        finally:
            connection.close()
    except AMQPError as error:
        raise BrokerUnreachable("the broker of the demo does not answer") from error
