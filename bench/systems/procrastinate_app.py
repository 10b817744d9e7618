"""Procrastinate: the queue is in Postgres. It keeps a job's state and times, not what it returned."""

from typing import Any

import procrastinate
import psycopg_pool

from bench import bank
from bench.system import database_url

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=database_url(), min_size=1, max_size=8)
)
_pool: Any = None


async def _bank() -> Any:
    global _pool
    if _pool is None:
        _pool = psycopg_pool.AsyncConnectionPool(database_url(), min_size=1, max_size=8, open=False)
        await _pool.open()
    return _pool


@app.task(name="work", queue="bench")
async def work(serial: int, account: int, amount: int) -> dict[str, Any]:
    """The small task."""
    return {"account": account, "amount": amount, "ok": True}


@app.task(name="transfer", queue="bench")
async def transfer(serial: int, source: int, target: int, amount: int) -> dict[str, Any]:
    """As `bank.by_hand`, asynchronous."""
    key = f"transfer:{serial}"
    pool = await _bank()
    async with pool.connection() as connection, connection.cursor() as cursor:
        await cursor.execute(bank.CLAIM, (key,))
        if cursor.rowcount:
            for change in bank.changes(source, target, amount):
                await cursor.execute(bank.UPDATE, change)
            await cursor.execute(bank.LEDGER, (key, source, target, amount))
            if bank.sends(serial):
                await cursor.execute(bank.OUTBOX, (key,))
    return {"source": source, "target": target, "amount": amount}
