"""How many messages wait in queues of the vhost under measurement, asked of the broker itself."""

from urllib.parse import unquote, urlsplit

import amqp

from bench.addresses import VHOST, addresses


def connection() -> amqp.Connection:
    """py-amqp's, connected to the vhost."""
    parts = urlsplit(addresses().amqp)
    opened = amqp.Connection(
        host=f"{parts.hostname}:{parts.port}",
        userid=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        virtual_host=VHOST,
    )
    opened.connect()
    return opened


def ready(*queues: str) -> int:
    """Those that no consumer holds."""
    opened = connection()
    channel = opened.channel()
    count = sum(int(channel.queue_declare(queue, passive=True).message_count) for queue in queues)
    opened.close()
    return count
