"""Operator actions: who did what to which, when and why. Append-only."""

from typing import Any

from sqlalchemy import Connection, select

from reliable_tasks.store.tables import operator_actions


def record(
    connection: Connection, actor: str, action: str, subject: str, reason: str | None = None, **details: Any
) -> None:
    """Write the act in the transaction that does it."""
    connection.execute(
        operator_actions.insert().values(
            actor=actor, action=action, subject=subject, reason=reason, details=details
        )
    )


def of_subject(connection: Connection, subject: str) -> list[dict[str, Any]]:
    """All acts on a subject, oldest first."""
    query = (
        select(operator_actions).where(operator_actions.c.subject == subject).order_by(operator_actions.c.id)
    )
    return [dict(row) for row in connection.execute(query).mappings()]
