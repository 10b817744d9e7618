"""Taskiq on RabbitMQ (aio-pika, quorum queue by default) with results in Postgres."""

from typing import Any

from taskiq_aio_pika import AioPikaBroker
from taskiq_pg.asyncpg import AsyncpgResultBackend

from bench.addresses import addresses
from bench.system import database_url

broker = AioPikaBroker(addresses().vhost, qos=100)
broker.with_result_backend(AsyncpgResultBackend(dsn=database_url(), min_size=1, max_size=8))


@broker.task(task_name="bench.work")
async def work(serial: int, account: int, amount: int) -> dict[str, Any]:
    """The small task."""
    return {"account": account, "amount": amount, "ok": True}
