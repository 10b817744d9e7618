"""What a phase has cost: commits and WAL by Postgres's own counters, CPU and memory by /proc."""

import os
from dataclasses import dataclass, field
from typing import Any

from bench.clean import connect

_TICK = os.sysconf("SC_CLK_TCK")


def postgres_counters(database: str) -> dict[str, int]:
    """Commits of one database; syncs and bytes of the server's WAL."""
    connection = connect("postgres")
    cursor = connection.cursor()
    cursor.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = %s", (database,))
    row = cursor.fetchone()
    cursor.execute("SELECT wal_sync, wal_bytes::bigint FROM pg_stat_wal")
    syncs, size = cursor.fetchone()
    connection.close()
    return {"commits": row[0] if row else 0, "wal_syncs": syncs, "wal_bytes": int(size)}


def descendants(roots: list[int]) -> list[int]:
    """The processes of these trees that are alive."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        if _stat(pid) is not None:
            found.append(pid)
        todo.extend(children.get(pid, []))
    return found


def cpu_seconds(roots: list[int]) -> float:
    """CPU of process trees: of the live ones, and of the ended children that they have waited for."""
    stats = [fields for pid in descendants(roots) if (fields := _stat(pid))]
    return sum(int(ticks) for fields in stats for ticks in fields[11:15]) / _TICK


def machine_cpu_seconds() -> float:
    """CPU of the whole machine, to see how much of it others used."""
    with open("/proc/stat") as file:
        fields = [int(ticks) for ticks in file.readline().split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / _TICK


def memory_mib(roots: list[int]) -> tuple[float, float]:
    """RSS (a page that forks share counts in each) and PSS (it counts once)."""
    sums = {"Rss:": 0, "Pss:": 0}
    for pid in descendants(roots):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                for line in file:
                    name, *rest = line.split()
                    if name in sums:
                        sums[name] += int(rest[0])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
    return sums["Rss:"] / 1024, sums["Pss:"] / 1024


@dataclass
class Servers:
    """The servers' own process trees: Postgres and RabbitMQ, and Redis when there is one."""

    pids: dict[str, list[int]] = field(default_factory=dict)

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each."""
        return {name: cpu_seconds(roots) for name, roots in self.pids.items()}


def servers(management: Any, redis: Any = None) -> Servers:
    """As each says of itself.

    Args:
        management: RabbitMQ's, which knows its nodes.
        redis: a client, when there is a Redis.
    """
    connection = connect("postgres")
    cursor = connection.cursor()
    cursor.execute("SELECT pg_read_file('postmaster.pid')")
    found = {"postgres": [int(cursor.fetchone()[0].split()[0])]}
    connection.close()
    found["rabbitmq"] = management.node_pids()
    if redis is not None:
        found["redis"] = [redis.info("server")["process_id"]]
    return Servers(found)


def _stat(pid: int) -> list[str] | None:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
