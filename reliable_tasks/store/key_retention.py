"""How long keys are kept, and the watermark: what was sent before it may have had a key that is forgotten.

The watermark moves in the transaction that forgets. Whoever has found no claim, and then looks at the watermark in a
later statement, therefore sees it where a claim was forgotten before: the other order would run a task again.
"""

from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, literal, select
from sqlalchemy.dialects.postgresql import insert

from reliable_tasks.store.tables import claims, key_watermark

SHORTEST = timedelta(hours=1)
"""No watermark is younger, so that only a message that is older than this needs to be compared with it."""

FORGOTTEN = ("succeeded", "failed", "discarded")
"""The ends that nothing can change; what waits for a person or another attempt is kept, however old it is."""

_now = func.clock_timestamp()


def watermark(connection: Connection) -> datetime | None:
    """The time up to which keys are forgotten; None when all are kept."""
    return connection.execute(select(key_watermark.c.at)).scalar_one_or_none()


def forget(connection: Connection, retention: timedelta, limit: int) -> int:
    """Move the watermark to `retention` ago and forget up to `limit` keys that were seen first before it."""
    if retention < SHORTEST:
        raise ValueError(f"keys are kept for {SHORTEST} at least, not {retention}")
    new = insert(key_watermark).values(id=1, at=_now - literal(retention))
    mark = connection.execute(
        new.on_conflict_do_update(
            index_elements=["id"], set_={"at": func.greatest(key_watermark.c.at, new.excluded.at)}
        ).returning(key_watermark.c.at)
    ).scalar_one()
    old = (
        select(claims.c.task_name, claims.c.key)
        .where(claims.c.first_seen < mark, claims.c.state.in_(FORGOTTEN))
        .order_by(claims.c.first_seen)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("old")
    )
    place = (claims.c.task_name == old.c.task_name) & (claims.c.key == old.c.key)
    return connection.execute(delete(claims).where(place)).rowcount
