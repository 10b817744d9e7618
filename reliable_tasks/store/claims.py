"""Claims: who may execute an idempotency key, and how it ended. Every statement runs at READ COMMITTED."""

from typing import Any, TypeGuard

from sqlalchemy import (
    Connection,
    Interval,
    Row,
    SmallInteger,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from reliable_tasks.store import key_retention
from reliable_tasks.store.tables import claims
from reliable_tasks.store.verdicts import (
    BeyondRetention,
    Busy,
    ClaimRequest,
    Closed,
    Conflict,
    Done,
    Owned,
    Verdict,
)

_now = func.clock_timestamp()


_TAKEN_AS_GIVEN = ("task_name", "key", "fingerprint", "task_id", "owner", "replay")
_GIVEN = {name: bindparam(f"p_{name}", type_=claims.c[name].type) for name in _TAKEN_AS_GIVEN}
_OWNED = {
    "state": "running",
    "owner": _GIVEN["owner"],
    # duplicates are given the result of the task that succeeds, which may not be the first
    "task_id": _GIVEN["task_id"],
    "may_have_acted": bindparam("p_may_act", type_=SmallInteger()),
    "lease_until": _now + bindparam("p_lease", type_=Interval()),
}
_OLD = (
    bindparam("p_sent_at", type_=claims.c.first_seen.type) < _now - literal(key_retention.SHORTEST)
).label("old")

# built once: building them costs more than running them
_NEW = (
    insert(claims)
    .values({**_GIVEN, **_OWNED, "attempts": 1, "fence": 1})
    .on_conflict_do_nothing()
    .returning(claims.c.fence, claims.c.attempts, _OLD)
)
_TAKE = (
    update(claims)
    .where(
        claims.c.task_name == _GIVEN["task_name"],
        claims.c.key == _GIVEN["key"],
        claims.c.fingerprint == _GIVEN["fingerprint"],
        or_(
            claims.c.state == "retry_wait",
            and_(claims.c.state == "running", claims.c.lease_until < _now),
            and_(claims.c.state == "dead", claims.c.replay < _GIVEN["replay"]),
        ),
    )
    .values(
        {
            **_OWNED,
            # a replay begins to count anew, or its first failure would be its last
            "attempts": case((claims.c.state == "dead", 1), else_=claims.c.attempts + 1),
            "fence": claims.c.fence + 1,
            "replay": func.greatest(claims.c.replay, _GIVEN["replay"]),
        }
    )
    .returning(claims.c.fence, claims.c.attempts, _OLD)
)
_READ = select(claims).where(
    claims.c.task_name == bindparam("p_task_name"), claims.c.key == bindparam("p_key")
)
_FORGET = delete(claims).where(
    claims.c.task_name == bindparam("p_task_name"), claims.c.key == bindparam("p_key")
)
_FINISH = (
    update(claims)
    .where(
        claims.c.task_name == bindparam("p_task_name"),
        claims.c.key == bindparam("p_key"),
        claims.c.owner == bindparam("p_owner"),
        claims.c.fence == bindparam("p_fence"),
        claims.c.state == "running",
    )
    .values(
        state=bindparam("p_state"),
        may_have_acted=bindparam("p_may_have_acted"),
        crashes=0,
        lease_until=None,
        owner=None,
    )
)


def take(connection: Connection, request: ClaimRequest) -> Verdict:
    """Claim the key, or say why not. Waits for another transaction's claim of the same key (lock_timeout)."""
    while True:
        verdict = _try_to_take(connection, request)
        if verdict is not None:
            return verdict
        # met, and then forgotten, or not there, and then committed: once more, as what it is now


def _try_to_take(connection: Connection, request: ClaimRequest) -> Verdict | None:
    previous = _read(connection, request)
    if _refused_for_ever(previous, request):
        return _refusal(previous, request)  # nothing is written for it
    if previous is not None:
        # once more, locked: an execution that ended since the first look has said how, and is not a lost one
        previous = connection.execute(_READ.with_for_update(), _place(request)).one_or_none()
        if _refused_for_ever(previous, request):
            return _refusal(previous, request)
    taken = connection.execute(
        # of a claim that came meanwhile nobody knows whether its execution is lost, and what it has left in doubt
        _NEW if previous is None else _TAKE,
        {
            "p_task_name": request.task_name,
            "p_key": request.key,
            "p_fingerprint": request.fingerprint,
            "p_task_id": request.task_id,
            "p_owner": request.owner,
            "p_replay": request.replay,
            "p_may_act": int(request.may_act),
            "p_lease": request.lease,
            "p_sent_at": request.sent_at,
        },
    ).one_or_none()
    if taken is None:
        return _refusal(previous, request) if previous is not None else None
    if taken.fence == 1 and taken.old and request.sent_at is not None:
        # a look of its own, after the claim: see `key_retention`
        mark = key_retention.watermark(connection)
        if mark is not None and request.sent_at < mark:
            connection.execute(_FORGET, _place(request))
            return BeyondRetention(request.sent_at, mark)
    return Owned(
        fence=taken.fence,
        attempt=taken.attempts,
        may_have_acted=previous is not None and bool(previous.may_have_acted),
        takeover=previous is not None and previous.state == "running",
    )


def _refused_for_ever(
    row: Row[tuple[object, ...]] | None, request: ClaimRequest
) -> TypeGuard[Row[tuple[object, ...]]]:
    """Whether the key is done, or belongs to another payload: neither changes any more."""
    return row is not None and (row.state == "succeeded" or bytes(row.fingerprint) != request.fingerprint)


def _refusal(row: Row[tuple[object, ...]], request: ClaimRequest) -> Verdict:
    if bytes(row.fingerprint) != request.fingerprint:
        return Conflict(row.task_id)
    if row.state == "succeeded":
        return Done(row.task_id)
    if row.state == "running":
        return Busy(row.lease_until)
    return Closed(row.state, row.task_id)


def _read(connection: Connection, request: ClaimRequest) -> Row[tuple[object, ...]] | None:
    return connection.execute(_READ, _place(request)).one_or_none()


def _place(request: ClaimRequest) -> dict[str, str]:
    return {"p_task_name": request.task_name, "p_key": request.key}


def finish(
    connection: Connection, request: ClaimRequest, fence: int, state: str, *, may_have_acted: bool
) -> bool:
    """End this execution's ownership in `state`; False when another execution has taken over."""
    changed = connection.execute(
        _FINISH,
        {
            "p_task_name": request.task_name,
            "p_key": request.key,
            "p_owner": request.owner,
            "p_fence": fence,
            "p_state": state,
            "p_may_have_acted": int(may_have_acted),
        },
    )
    return changed.rowcount == 1


def count_crash(connection: Connection, request: ClaimRequest) -> int:
    """Count an execution that begins on a redelivered message: the one before may have died of it.

    Committed apart from the execution, since a crash rolls the execution's own transaction back.
    """
    crashes: int = connection.execute(
        insert(claims)
        .values(
            task_name=request.task_name,
            key=request.key,
            fingerprint=request.fingerprint,
            task_id=request.task_id,
            state="retry_wait",
            crashes=1,
            replay=request.replay,
        )
        .on_conflict_do_update(
            index_elements=[claims.c.task_name, claims.c.key],
            set_={"crashes": claims.c.crashes + literal(1)},
        )
        .returning(claims.c.crashes)
    ).scalar_one()
    return crashes


def get(connection: Connection, task_name: str, key: str) -> dict[str, Any] | None:
    """The claim of a key."""
    query = select(claims).where(claims.c.task_name == task_name, claims.c.key == key)
    row = connection.execute(query).mappings().one_or_none()
    return dict(row) if row is not None else None


def in_doubt(connection: Connection, task_name: str | None, key: str | None, task_id: str) -> bool:
    """Whether an execution of this task began an external call and never said how it ended."""
    query = select(claims.c.may_have_acted).where(
        claims.c.task_name == task_name, claims.c.key == key, claims.c.task_id == task_id
    )
    return bool(connection.execute(query).scalar_one_or_none())


def discard(connection: Connection, task_name: str, key: str, task_id: str) -> bool:
    """Close the dead claim of a discarded task; False when the key is not dead, or dead by another task."""
    changed = connection.execute(
        update(claims)
        .where(
            claims.c.task_name == task_name,
            claims.c.key == key,
            claims.c.task_id == task_id,
            claims.c.state == "dead",
        )
        .values(state="discarded")
    )
    return changed.rowcount == 1
