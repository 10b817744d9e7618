"""Which queues are missing, asked in the way that needs no right to configure anything."""

import logging
from collections.abc import Iterable

import pika.exceptions

from reliable_tasks.broker.connection import connected

# the answer "no" is one we ask for; pika would log it as a warning
logging.getLogger("pika.channel").setLevel(logging.ERROR)

_NOT_FOUND, _RESOURCE_LOCKED = 404, 405


def missing_queues(broker_url: str, names: Iterable[str]) -> list[str]:
    """Those of the queues that the broker does not have, in the order given.

    Raises:
        BrokerUnreachable: when the broker is not there or does not let us in.
    """
    missing = []
    with connected(broker_url, purpose="queue check") as connection:
        channel = connection.channel()
        for name in names:
            try:
                channel.queue_declare(name, passive=True)
            except pika.exceptions.ChannelClosedByBroker as error:
                # the answer "no" closes the channel
                channel = connection.channel()
                if error.reply_code == _NOT_FOUND:
                    missing.append(name)
                elif error.reply_code != _RESOURCE_LOCKED:
                    raise
    return missing
