"""Dramatiq on RabbitMQ with confirmed delivery; results, which it keeps in Redis or memcached only, in Redis."""

from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.addresses import addresses

broker = RabbitmqBroker(url=addresses().vhost, confirm_delivery=True)
broker.add_middleware(Results(backend=RedisBackend(url=addresses().redis + "/1")))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, queue_name="bench")
def work(serial: int, account: int, amount: int) -> dict[str, Any]:
    """The small task."""
    return {"account": account, "amount": amount, "ok": True}
