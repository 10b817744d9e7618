"""What broker and database do without any task system: the limits that ours and the peers are held against."""

from collections.abc import Callable
from functools import cache

Measure = Callable[[], float]
"""Operations a second."""

ONE_TRANSACTION = "transfer, one transaction, psycopg2 statements, {} connections"
"""The ceiling of transfers that commit one by one."""

PIPELINED = "publish py-amqp window 500, quorum"
"""The ceiling of bulk publishing."""

OUR_BYTES = "publish py-amqp window 500 with headers as ours, quorum"
"""The same for messages that are as long as ours, whose headers say what a task is."""


@cache
def measures() -> dict[str, Measure]:
    """All of them by name."""
    from bench.raw import consuming, publishing, transfers, upserting

    return {**publishing.MEASURES, **consuming.MEASURES, **upserting.MEASURES, **transfers.MEASURES}
