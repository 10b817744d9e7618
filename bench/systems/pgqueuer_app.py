"""PgQueuer: the queue is in Postgres. It logs a job's state and times, not what it returned."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.models import Job

from bench.system import database_url


@asynccontextmanager
async def create() -> AsyncIterator[Any]:
    """What `pgq run` is given."""
    connection = await asyncpg.connect(database_url())
    try:
        queuer = PgQueuer.from_asyncpg_connection(connection)

        @queuer.entrypoint("work")
        async def work(job: Job) -> None:
            arguments = json.loads(job.payload or b"{}")
            {"account": arguments["account"], "amount": arguments["amount"], "ok": True}

        yield queuer
    finally:
        await connection.close()


if __name__ == "__main__":
    # `pgq run` of 1.6.0 ends with an AttributeError under the typer of these days: this is what it calls
    from pgqueuer.adapters.cli import supervisor

    asyncio.run(supervisor.run(create, batch_size=100))
