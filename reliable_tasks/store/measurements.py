"""What metrics and doctor read: counts, sizes, ages and server settings, in one read-only snapshot."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from reliable_tasks.model.states import TRANSITIONS
from reliable_tasks.store.engine import begin
from reliable_tasks.store.leadership import Lead

_FINAL = [state.value for state, following in TRANSITIONS.items() if not following]
"""States that are never left: only they may be counted, a counter must not go back."""


@contextmanager
def snapshot(engine: Engine, *, seconds: float = 5.0) -> Iterator[Connection]:
    """A read-only transaction in which all numbers are of one moment; no statement takes longer than `seconds`.

    Raises:
        DatabaseUnreachable: when the database cannot be reached.
        MigrationMissing: when our schema is not there.
    """
    with begin(engine) as connection:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(seconds * 1000)}")
        yield connection


def results_size(connection: Connection) -> tuple[int, int]:
    """Bytes of the results table with its indexes, and its rows."""
    row = connection.execute(
        text(
            "SELECT pg_total_relation_size('reliable_tasks.results'), "
            "(SELECT count(*) FROM reliable_tasks.results)"
        )
    ).one()
    return int(row[0]), int(row[1])


def states(connection: Connection) -> list[tuple[str, int]]:
    """Tasks by the state they are in now."""
    return _pairs(connection, "SELECT state, count(*) FROM reliable_tasks.results GROUP BY 1 ORDER BY 1")


def completed(connection: Connection) -> list[tuple[str, str, int]]:
    """Ends reached so far, by task and state; a task that died, was replayed and died again counts twice.

    Deleted results stay counted by their receipts. Names that only a message gave are not repeated: they would
    let a sender make any number of time series.
    """
    query = """
        SELECT coalesce(name, ''), state, sum(n)::bigint FROM (
            SELECT name, state, count(*) AS n FROM reliable_tasks.results
             WHERE state = ANY(:final) GROUP BY 1, 2
            UNION ALL
            SELECT name, state, count(*) FROM reliable_tasks.deletion_receipts
             WHERE state = ANY(:final) GROUP BY 1, 2
            UNION ALL
            SELECT CASE WHEN reason IN ('unknown_task', 'undecodable') THEN '' ELSE task_name END,
                   CASE WHEN reason = 'uncertain' THEN 'uncertain' ELSE 'dead' END, count(*)
              FROM reliable_tasks.dead_letters GROUP BY 1, 2
        ) AS ends GROUP BY 1, 2 ORDER BY 1, 2
    """
    return [(row[0], row[1], int(row[2])) for row in connection.execute(text(query), {"final": _FINAL})]


def durations(connection: Connection) -> list[tuple[str, int, float]]:
    """Successful executions by task: how many, and the seconds they took together."""
    query = """
        SELECT name, count(*), sum(extract(epoch FROM finished_at - started_at))
          FROM reliable_tasks.attempts
         WHERE state = 'succeeded' AND started_at IS NOT NULL GROUP BY 1 ORDER BY 1
    """
    return [(row[0], int(row[1]), float(row[2])) for row in connection.execute(text(query))]


def open_dead_letters(connection: Connection) -> list[tuple[str, str, int, float]]:
    """Dead letters that wait for a person, by queue and reason: how many, and the oldest's age in seconds."""
    query = """
        SELECT coalesce(queue, ''), reason, count(*),
               greatest(extract(epoch FROM clock_timestamp() - min(first_seen)), 0)
          FROM reliable_tasks.dead_letters WHERE state = 'open' GROUP BY 1, 2 ORDER BY 1, 2
    """
    return [(row[0], row[1], int(row[2]), float(row[3])) for row in connection.execute(text(query))]


def outbox(connection: Connection) -> Mapping[str, float]:
    """`waiting` messages, those of them that are `due`, for how many seconds (`lag`), and `refused` ones."""
    query = """
        SELECT count(*) AS waiting,
               count(*) FILTER (WHERE due_at <= clock_timestamp()) AS due,
               greatest(coalesce(extract(epoch FROM clock_timestamp() - min(due_at)), 0), 0) AS lag,
               count(*) FILTER (WHERE tries > 0) AS refused
          FROM reliable_tasks.outbox
    """
    return {name: float(value) for name, value in connection.execute(text(query)).mappings().one().items()}


def suppressed(connection: Connection) -> list[tuple[str, int]]:
    """Deliveries that ran nothing, by kind."""
    return _pairs(
        connection, "SELECT kind, count(*) FROM reliable_tasks.suppressed_deliveries GROUP BY 1 ORDER BY 1"
    )


def server_settings(connection: Connection) -> Mapping[str, str]:
    """The settings that decide whether a commit survives a crash, the version, and standbys seen."""
    names = (
        "server_version",
        "fsync",
        "synchronous_commit",
        "full_page_writes",
        "synchronous_standby_names",
    )
    query = "SELECT name, setting FROM pg_settings WHERE name = ANY(:names)"
    found = {row[0]: str(row[1]) for row in connection.execute(text(query), {"names": list(names)})}
    standbys = connection.execute(text("SELECT count(*) FROM pg_stat_replication")).scalar_one()
    return {**found, "standbys": str(standbys)}


def leads(connection: Connection, what: Lead) -> bool:
    """Whether a process has this lead in this database."""
    query = """
        SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                        WHERE d.datname = current_database() AND l.locktype = 'advisory'
                          AND l.classid = :lock AND l.granted)
    """
    return bool(connection.execute(text(query), {"lock": int(what)}).scalar_one())


def lapsed_claims(connection: Connection) -> int:
    """Executions whose lease ended over a minute ago and that nobody has taken over."""
    query = """
        SELECT count(*) FROM reliable_tasks.leased_messages m
          JOIN reliable_tasks.claims c ON c.task_name = m.task_name AND c.key = m.key
         WHERE c.state = 'running' AND c.lease_until < clock_timestamp() - interval '1 minute'
    """
    return int(connection.execute(text(query)).scalar_one())


def sent_again(connection: Connection) -> int:
    """Messages that the sweeper has sent again."""
    query = """
        SELECT count(*) FROM reliable_tasks.operator_actions
         WHERE actor = 'sweeper' AND action = 'task.sent_again'
    """
    return int(connection.execute(text(query)).scalar_one())


def key_watermark(connection: Connection) -> float:
    """The time up to which keys are forgotten, in seconds since 1970; 0 when all are kept."""
    query = "SELECT coalesce(max(extract(epoch FROM at)), 0) FROM reliable_tasks.key_watermark"
    return float(connection.execute(text(query)).scalar_one())


def _pairs(connection: Connection, query: str) -> list[tuple[str, int]]:
    return [(row[0], int(row[1])) for row in connection.execute(text(query))]
