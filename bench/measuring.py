"""One system, one round: publish one by one, fill up, drain, single calls. What it comes to is a record."""

import os
import time
from dataclasses import dataclass, replace
from typing import Any

from bench import clean
from bench.counters import Servers, cpu_seconds, machine_cpu_seconds, memory_mib, postgres_counters
from bench.producing import produce
from bench.system import System
from bench.workers import Workers, running

Record = dict[str, Any]
STATISTICS_SECONDS = 0.3
"""Postgres's processes report their commits when they end, and a moment later."""


class TooSlow(RuntimeError):
    """A phase took longer than it may."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the tests take little, a growth curve takes much.

    Args:
        published: tasks that are sent one by one and timed; the rest of a drain is filled up.
        share: of the tasks that a system takes in the first round.
        seconds: how long a drain should last in later rounds, which take as many tasks as that needs.
        most: tasks of one drain, at most.
        calls: single calls, at most; each system may take fewer.
        chord: tasks in a chord's header; 0 for no chord.
        limit: seconds that one phase may take.
    """

    published: int = 800
    share: float = 1.0
    seconds: float = 4.0
    most: int = 60_000
    calls: int = 300
    chord: int = 0
    limit: float = 120.0

    def tasks(self, system: System, last_rate: float | None) -> int:
        """How many a system is given, by its rate in the round before."""
        if last_rate is None:
            return max(10, int(system.tasks * self.share))
        wanted = int(last_rate * self.seconds)
        return max(10, int(system.tasks * self.share), min(self.most, wanted))


@dataclass(frozen=True)
class Moment:
    """All counters at once."""

    at: float
    done: int
    workers: float
    servers: dict[str, float]
    machine: float
    runner: float


def measure(system: System, tasks: int, sizes: Sizes, servers: Servers) -> Record:
    """A whole round of one system."""
    record: Record = {"system": system.name, "tasks": tasks, "at": time.time()}
    try:
        system.reset()
        published = min(sizes.published, tasks)
        record["publish_rate"] = round(published / produce(system, "publish", 0, published), 1)
        if tasks > published:
            produce(system, "fill", published, tasks - published)
        system.published = tasks
        record |= drain(system, tasks, sizes, servers)
        system.verify(tasks)
        calls = min(system.calls, sizes.calls)
        if calls and system.result_store != "none":
            with running(system):
                record["latency"] = summary(produce(system, "latency", tasks, calls))
    finally:
        system.close()
        clean.drop_database(system.database)
    return record


def drain(system: System, tasks: int, sizes: Sizes, servers: Servers) -> Record:
    """Start the workers on a full queue, wait until so many tasks are done, stop them.

    More may have been published than `tasks`: then the queue stays about as long as it is.
    """
    clean.checkpoint()
    before = postgres_counters(system.database)
    with running(system) as workers:
        started = time.perf_counter()
        first, last = _watch(system, tasks, workers, sizes.limit, servers)
        rss, pss = memory_mib(workers.pids)
        # of a drain that is broken off the last one is not known
        span = system.span(tasks) if system.published == tasks else None
    finished = max(system.done(), tasks) if system.published > tasks else tasks
    polls = system.close()
    time.sleep(STATISTICS_SECONDS)  # there is nothing to ask: the counters only stop growing
    after = postgres_counters(system.database)
    counted = max(last.done - first.done, 1)
    # by the store's own clock where it keeps times; else by what the polling saw
    rate = tasks * 0.9 / (span[1] - span[0]) if span and span[1] > span[0] else counted / (last.at - first.at)
    return {
        "rate": round(rate, 1),
        "start_seconds": round(first.at - started, 2),
        **(_cpu(first, last, counted) if last.machine > first.machine else {}),
        "commits_per_task": round((after["commits"] - before["commits"] - polls) / finished, 4),
        "wal_syncs_per_task": round((after["wal_syncs"] - before["wal_syncs"]) / finished, 4),
        "wal_bytes_per_task": round((after["wal_bytes"] - before["wal_bytes"]) / finished),
        "rss_mib": round(rss),
        "pss_mib": round(pss),
    }


def _watch(
    system: System, tasks: int, workers: Workers, limit: float, servers: Servers
) -> tuple[Moment, Moment]:
    """The moments when a tenth was done, and when all was."""
    first: Moment | None = None
    began = time.perf_counter()
    looked = (began, 0)
    while True:
        workers.check()
        asked = time.perf_counter()
        count = system.done()
        now = time.perf_counter()
        if first is None and count >= min(tasks * 0.1, tasks - 1):
            first = _moment(now, count, workers, servers)
            if count >= tasks:
                # all between two looks: the rate is a lower bound, and nothing is known of the rest
                return replace(first, at=looked[0], done=looked[1]), first
        elif first is not None and count >= tasks:
            return first, _moment(now, count, workers, servers)
        looked = (now, count)
        if now - began > limit:
            raise TooSlow(f"only {count} of {tasks} done in {limit:.0f} s")
        pause = max(0.1 if first else 0.02, 10 * (now - asked))
        time.sleep(pause)  # a count of many rows takes its time: it may not become the load that is measured


def _moment(at: float, done: int, workers: Workers, servers: Servers) -> Moment:
    return Moment(
        at, done, cpu_seconds(workers.pids), servers.cpu(), machine_cpu_seconds(), sum(os.times()[:2])
    )


def _cpu(first: Moment, last: Moment, counted: int) -> Record:
    """CPU seconds for each thousand tasks, and how many cores others had meanwhile."""
    thousands = max(counted, 1) / 1000
    spent = {name: last.servers[name] - first.servers[name] for name in last.servers}
    spent["worker"] = last.workers - first.workers
    others = last.machine - first.machine - sum(spent.values()) - (last.runner - first.runner)
    return {
        **{f"{name}_cpu_s_per_1k": round(seconds / thousands, 4) for name, seconds in spent.items()},
        "others_cores": round(others / max(last.at - first.at, 0.1), 2),
    }


def summary(seconds: list[float]) -> Record:
    """What single calls came to, in milliseconds."""
    ordered = sorted(one * 1000 for one in seconds)
    middle, late = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {"calls": len(ordered), "p50_ms": round(middle, 2), "p99_ms": round(late, 2)}
