"""What a run sends, derived from its seed alone."""

import itertools
import random
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.chaos.workload_tables import ACCOUNTS, CLOSED, OPENING

SHARES = {
    "repeated": 0.10,
    "reused": 0.01,
    "poison": 0.02,
    "unfunded": 0.03,
    "charge": 0.03,
    "charge_known": 0.01,
    "charge_blind": 0.01,
    "long": 0.02,
    "flaky": 0.03,
    "cancelled": 0.02,
    "closed": 0.01,
    "rolled_back": 0.01,
    "crash": 0.002,
}
"""Kind of operation to its share; the rest are plain transfers. Each kind happens once at least."""

LEASE = "CHAOS_LEASE"
"""Environment variable: seconds that an external task's claim is honoured without a heartbeat."""

_APP = "tests.chaos.workload_app"
_LEVELS = 3
DATABASE_TASKS = (f"{_APP}.transfer", f"{_APP}.receipt", f"{_APP}.crash", f"{_APP}.pay")
EXTERNAL_TASKS = (f"{_APP}.charge", f"{_APP}.charge_known", f"{_APP}.charge_blind")


@dataclass(frozen=True)
class Leases:
    """Seconds: how long a claim is honoured, and how long a task that is longer takes."""

    lease: float = 2.0

    @property
    def longer(self) -> float:
        return self.lease * 1.3


def plan(
    seed: int | str,
    count: int,
    *,
    leave_out: tuple[str, ...] = (),
    lease: float = 2.0,
    shares: Mapping[str, float] = SHARES,
    receipted: float = 1.0,
) -> list[dict[str, Any]]:
    """The sends of so many operations, in order; an operation that is sent again is so a little later.

    Args:
        shares: kind of operation to its share.
        receipted: share of the transfers that send another task.
    """
    chance = random.Random(f"workload {seed}")
    kinds = [
        kind
        for kind, share in shares.items()
        if kind not in leave_out
        for _ in range(max(1, round(count * share)))
    ]
    kinds += ["transfer"] * max(0, count - len(kinds))
    chance.shuffle(kinds)
    from tests.chaos.workload_poison import CLASSES  # only here: to make its bodies takes a while

    # each class in its turn, so that all come up
    classes = sorted(CLASSES)
    random.Random(f"poison {seed}").shuffle(classes)
    poison = itertools.cycle(classes)
    placed = []
    for number, kind in enumerate(kinds):
        for copy, send in enumerate(_operation(chance, kind, f"{seed}-{number}", Leases(lease), poison)):
            placed.append((number + copy * chance.uniform(0, 20), len(placed), send))
    placed = [(where, order, _maybe_receipted(send, receipted)) for where, order, send in placed]
    return [
        {**send, "n": n} for n, (_where, _order, send) in enumerate(sorted(placed, key=lambda one: one[:2]))
    ]


def _maybe_receipted(send: dict[str, Any], share: float) -> dict[str, Any]:
    """All that is sent of a key says the same, or it would be another payload."""
    if send.get("task") != "transfer" or random.Random(send["key"]).random() < share:
        return send
    return {**send, "kwargs": {**send["kwargs"], "receipted": False}, "children": []}


def _operation(
    chance: random.Random, kind: str, tid: str, leases: Leases, poison: Iterator[str]
) -> Iterator[dict[str, Any]]:
    if kind == "poison":
        mark = f"poison-{tid}-"
        yield {"kind": kind, "id": mark, "mark": mark, "name": next(poison), "via": "raw"}
    elif kind == "crash":
        yield _send(chance, kind, tid, "crash", {"tid": tid, "mark": f"crash-{tid}-"}, mark=f"crash-{tid}-")
    elif kind == "price":
        asked = {"tid": tid, "amount": chance.randint(1, 99), "fails": chance.choice((0,) * 19 + (1,))}
        for _ in range(chance.choice((1, 1, 1, 2))):
            yield _send(chance, kind, tid, "price", asked)
    elif kind.startswith("charge"):
        yield from _charges(chance, kind, tid, leases)
    else:
        yield from _transfers(chance, kind, tid, leases)


def _charges(chance: random.Random, kind: str, tid: str, leases: Leases) -> Iterator[dict[str, Any]]:
    call: dict[str, Any] = {"tid": tid, "amount": chance.randint(1, 9999)}
    call["answer"] = chance.choice(("ok", "ok", "ok", "error", "drop"))
    if chance.random() < 0.2:
        call[chance.choice(("before", "after"))] = leases.longer
    for _ in range(chance.choice((1, 1, 2))):
        yield _send(chance, kind, tid, kind, call, amount=call["amount"])


def _transfers(chance: random.Random, kind: str, tid: str, leases: Leases) -> Iterator[dict[str, Any]]:
    source, target = (str(one) for one in chance.sample(range(1, ACCOUNTS + 1), 2))
    money = {"source": source, "target": target, "amount": chance.randint(1, 99)}
    more: dict[str, Any] = {}
    if kind == "unfunded":
        money["amount"] = OPENING * ACCOUNTS * 2
    elif kind == "closed":
        money["source"] = chance.choice(CLOSED)
    elif kind == "long":
        more["pause"] = leases.longer
    elif kind == "flaky":
        more["fails"] = chance.randint(1, 3)
    copies = chance.randint(2, 3) if kind == "repeated" else 2 if kind == "reused" else 1
    first = _task_id(chance, tid)
    for copy in range(copies):
        if kind == "reused":
            money = {**money, "amount": money["amount"] + copy}
        # sent again by a sender that got no answer, or by another one that knows the same business key
        task_id = first if kind == "repeated" and chance.random() < 0.5 else _task_id(chance, f"{tid}-{copy}")
        kwargs = {"tid": tid, **money, **more}
        yield _send(chance, kind, tid, "transfer", kwargs, **money, id=task_id)


def _send(
    chance: random.Random, kind: str, tid: str, task: str, kwargs: dict[str, Any], **more: Any
) -> dict[str, Any]:
    prefix = {"charge_known": "known", "charge_blind": "blind"}.get(task, task)
    queue = "payments" if task in ("transfer", "crash", "price") else "notifications"
    return {
        "kind": kind,
        "id": _task_id(chance, tid),
        "task": task,
        "name": f"{_APP}.{task}",
        "key": f"{prefix}:{tid}",
        "kwargs": kwargs,
        "via": "enqueue" if kind in ("cancelled", "rolled_back") or chance.random() < 0.5 else "direct",
        "priority": chance.randrange(_LEVELS) if queue == "payments" else None,
        "insist": chance.random() < 0.8,
        "children": [[f"{_APP}.receipt", f"receipt:{tid}"]] if task == "transfer" else [],
        **more,
    }


def _task_id(chance: random.Random, tid: str) -> str:
    """Half of the ids are ours, version 7, and half any text, as other senders choose them."""
    if chance.random() < 0.5:
        return f"sent-{tid}-{chance.getrandbits(32):08x}"
    number = chance.getrandbits(128) & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62
    return str(uuid.UUID(int=number))
