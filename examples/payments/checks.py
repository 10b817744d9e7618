"""What is true after a run, read back from the database, the broker and the bank's log."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from sqlalchemy import Connection, text

from examples.payments import ledger
from examples.payments.workload import Workload


@dataclass(frozen=True)
class Money:
    """The ledger and the bank's log against the orders.

    Args:
        lost: orders without a debit and a credit of their amount.
        double: orders with more than one.
        charges_missing: orders in the ledger that the receiving bank has not charged.
        unasked: orders in the ledger that nobody sent.
    """

    effects: int
    lost: tuple[str, ...]
    double: tuple[str, ...]
    debits: Decimal
    credits: Decimal
    bank_charges: int
    charges_double: tuple[str, ...]
    charges_missing: tuple[str, ...]
    unfunded_paid: int
    unasked: tuple[str, ...]


def money(connection: Connection, workload: Workload, bank_log: Path) -> Money:
    """Compare what was booked and charged with what was ordered."""
    entries = ledger.entries(connection)
    charges = Counter(line.split("\t")[0] for line in _lines(bank_log))
    orders = {order.order_id: order for order in workload.orders}
    unfunded = {order.order_id: order for order in workload.unfunded}
    booked = {order_id: entries[order_id] for order_id in orders if order_id in entries}
    return Money(
        effects=sum(min(entry["debits"], entry["credits"]) for entry in booked.values()),
        lost=tuple(
            order_id
            for order_id, order in orders.items()
            if order_id not in booked
            or min(booked[order_id]["debited"], booked[order_id]["credited"]) < order.amount
        ),
        double=tuple(
            order_id for order_id, entry in entries.items() if max(entry["debits"], entry["credits"]) > 1
        ),
        debits=sum((entry["debited"] for entry in booked.values()), Decimal(0)),
        credits=sum((entry["credited"] for entry in booked.values()), Decimal(0)),
        bank_charges=sum(charges.values()),
        charges_double=tuple(key for key, count in charges.items() if count > 1),
        charges_missing=tuple(order_id for order_id in entries if f"notify:{order_id}" not in charges),
        unfunded_paid=sum(1 for order_id in unfunded if order_id in entries),
        unasked=tuple(
            order_id for order_id in entries if order_id not in orders and order_id not in unfunded
        ),
    )


@dataclass(frozen=True)
class Deliveries:
    """What the framework recorded: every delivery left a row as an attempt or as suppressed.

    Args:
        in_doubt: keys of tasks that wait as `uncertain`: their calls may have happened or not.
    """

    attempts: int
    suppressed: Mapping[str, int]
    states: Mapping[str, int]
    dead_letters: Mapping[str, int]
    conflicts: int
    resolved: int
    outbox: int
    in_doubt: frozenset[str]

    @property
    def total(self) -> int:
        """All deliveries of orders that were processed to their end."""
        return self.attempts + sum(self.suppressed.values())

    @property
    def waiting(self) -> int:
        """Tasks that have not come to an end."""
        return sum(self.states.get(state, 0) for state in ("enqueued", "running", "retry_wait"))


def deliveries(connection: Connection, task_name: str) -> Deliveries:
    """Count the recorded deliveries of one task, and the ends of all."""

    def counts(query: str) -> dict[str, int]:
        return {row[0]: row[1] for row in connection.execute(text(query), {"name": task_name})}

    def count(query: str) -> int:
        return int(connection.execute(text(query), {"name": task_name}).scalar_one())

    return Deliveries(
        attempts=count("SELECT count(*) FROM reliable_tasks.attempts WHERE name = :name"),
        suppressed=counts(
            "SELECT kind, count(*) FROM reliable_tasks.suppressed_deliveries WHERE task_name = :name GROUP BY 1"
        ),
        states=counts("SELECT state, count(*) FROM reliable_tasks.results GROUP BY 1"),
        dead_letters=counts("SELECT reason, count(*) FROM reliable_tasks.dead_letters GROUP BY 1"),
        conflicts=count(
            "SELECT count(DISTINCT task_id) FROM reliable_tasks.dead_letters WHERE reason = 'conflict'"
        ),
        resolved=count("SELECT count(*) FROM reliable_tasks.dead_letters WHERE state = 'resolved'"),
        outbox=count("SELECT count(*) FROM reliable_tasks.outbox"),
        in_doubt=frozenset(
            connection.execute(
                text("SELECT idempotency_key FROM reliable_tasks.results WHERE state = 'uncertain'")
            ).scalars()
        ),
    )


def failures(workload: Workload, found: Money, recorded: Deliveries, queued: int, replayed: int) -> list[str]:
    """Every promise that was not kept, in words; empty when all were."""
    # a process that is killed before its call leaves a doubt, too: nobody may say that it was charged
    missing = [order for order in found.charges_missing if f"notify:{order}" not in recorded.in_doubt]
    checks = {
        f"{len(found.lost)} orders lost: {found.lost[:3]}": not found.lost,
        f"{len(found.double)} orders paid twice: {found.double[:3]}": not found.double,
        f"{found.effects} effects of {len(workload.orders)} orders": found.effects == len(workload.orders),
        f"debits {found.debits}, credits {found.credits}, orders {workload.amount}": found.debits
        == found.credits
        == workload.amount,
        f"{len(found.charges_double)} charges made twice: {found.charges_double[:3]}": not found.charges_double,
        f"{len(missing)} charges missing: {missing[:3]}": not missing,
        f"{len(found.unasked)} payments that nobody ordered: {found.unasked[:3]}": not found.unasked,
        f"{recorded.conflicts} conflicts of {len(workload.reused)} reused keys": recorded.conflicts
        == len(workload.reused),
        f"{found.unfunded_paid} unfunded orders paid, {len(workload.funded_later)} funded": found.unfunded_paid
        == len(workload.funded_later),
        f"{recorded.resolved} of {replayed} replays resolved": recorded.resolved == replayed,
        f"{recorded.states.get('uncertain', 0)} uncertain, {workload.planned('blind')} planned": recorded.states.get(
            "uncertain", 0
        )
        == workload.planned("blind"),
        f"{recorded.waiting} tasks without an end": recorded.waiting == 0,
        f"{recorded.outbox} messages in the outbox, {queued} in queues": recorded.outbox == queued == 0,
        f"{recorded.total} deliveries of {workload.deliveries} sent": recorded.total >= workload.deliveries,
    }
    return [text for text, kept in checks.items() if not kept]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
