"""What the small runs send: parts of the workload, in the order that their fault needs."""

from typing import Any

from tests.chaos.workload_plan import SHARES, plan

Sends = list[dict[str, Any]]
SEED = 7
LEASE_SECONDS = 1.0


def only(*kinds: str, count: int, **more: Any) -> Sends:
    """A plan of these kinds, besides plain transfers."""
    return plan(
        SEED,
        count,
        leave_out=tuple(kind for kind in SHARES if kind not in kinds),
        lease=LEASE_SECONDS,
        **more,
    )


def charged_twice(**call: Any) -> Sends:
    """One charge, sent twice under the same key."""
    first = next(line for line in only("charge", count=1) if line["kind"] == "charge")
    usual = {**first["kwargs"], "answer": "ok", "before": 0.0, "after": 0.0}
    return [
        {**first, "id": f"charge-{n}", "kwargs": {**usual, **call}, "via": "direct", "n": n} for n in (0, 1)
    ]


def second_later() -> Sends:
    first, second = charged_twice(before=1.0)
    return [first, {**second, "gate": "second"}]


def around_a_pause() -> Sends:
    """Transfers that fill a queue; into the pause a charge and one more of them; then the last one, for the full queue.

    When the broker goes on it refuses at once what the full queue cannot take, and confirms the charge a little later.
    """
    transfers = _filling(only(count=8), level=0)
    before, into = (
        {**charge, "key": f"charge:{n}", "insist": False} for n, charge in enumerate(charged_twice())
    )
    for charge in (before, into):
        charge["kwargs"] = {**charge["kwargs"], "tid": charge["key"].partition(":")[2]}
    last = {**transfers[-1], "gate": "late"}
    return _numbered([*transfers[:-2], before, {**into, "gate": "pause"}, transfers[-2], last])


def into_full_queues() -> Sends:
    """Direct sends until each level is full, then as many through the outbox."""
    sends = only(count=30)
    full = [line for level in range(3) for line in _filling(sends[level * 5 : level * 5 + 5], level)]
    return _numbered([*full, *({**line, "via": "enqueue"} for line in sends[15:])])


def _filling(sends: Sends, level: int) -> Sends:
    return [{**line, "via": "direct", "priority": level, "insist": False} for line in sends]


def _numbered(sends: Sends) -> Sends:
    return [{**line, "n": n} for n, line in enumerate(sends)]
