"""Metrics, read from database and broker when they are asked for: forked workers can neither lose nor double any."""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from reliable_tasks.broker.management import Management
from reliable_tasks.errors import ReliableTasksError
from reliable_tasks.settings import Settings
from reliable_tasks.store import measurements
from reliable_tasks.store.engine import create_engine

log = structlog.get_logger("reliable_tasks.exporter")

PREFIX = "reliable_tasks"
BROKER_SECONDS = 3.0
DATABASE_SECONDS = 5.0
"""Together below Prometheus's own limit of ten seconds for a scrape."""

SUPPRESSED_KINDS = ("duplicate", "redelivered", "conflict", "busy", "takeover", "fenced")


@dataclass(frozen=True)
class Described:
    """One metric: its name without the prefix, what it is of, and its labels."""

    name: str
    kind: type[Metric]
    source: str
    labels: tuple[str, ...]
    help: str

    @property
    def type(self) -> str:
        """gauge, counter or summary."""
        return str(self.family().type)

    def family(self) -> Any:
        """An empty family, to be filled."""
        return self.kind(f"{PREFIX}_{self.name}", self.help, labels=self.labels)  # type: ignore[call-arg]  # Metric itself takes a type, too; these are its families


METRICS = (
    Described(
        "build_info", GaugeMetricFamily, "", ("version", "python", "celery"), "Versions in use; always 1."
    ),
    Described(
        "source_up",
        GaugeMetricFamily,
        "",
        ("source",),
        "Whether the database and the broker answered this scrape; without one, its metrics are missing.",
    ),
    Described(
        "results_table_bytes",
        GaugeMetricFamily,
        "database",
        (),
        "Size of the results table with its indexes, in bytes.",
    ),
    Described("results_table_rows", GaugeMetricFamily, "database", (), "Rows of the results table."),
    Described("results", GaugeMetricFamily, "database", ("state",), "Tasks by the state they are in now."),
    Described(
        "completed",
        CounterMetricFamily,
        "database",
        ("task", "state"),
        "Ends reached, by task and state; rate() of it is the completion rate. Replayed tasks count each end.",
    ),
    Described(
        "duration_seconds",
        SummaryMetricFamily,
        "database",
        ("task",),
        "Seconds that successful executions took: _sum and _count; their rates divided are the recent average.",
    ),
    Described(
        "duration_average_seconds",
        GaugeMetricFamily,
        "database",
        ("task",),
        "Average seconds of all successful executions so far.",
    ),
    Described(
        "dead_letters_open",
        GaugeMetricFamily,
        "database",
        ("queue", "reason"),
        "Dead letters that wait for a person.",
    ),
    Described(
        "dead_letters_oldest_age_seconds",
        GaugeMetricFamily,
        "database",
        ("queue", "reason"),
        "Age of the oldest dead letter that waits for a person.",
    ),
    Described(
        "outbox_messages", GaugeMetricFamily, "database", (), "Messages in the outbox, due or for later."
    ),
    Described("outbox_due_messages", GaugeMetricFamily, "database", (), "Outbox messages that are due."),
    Described(
        "outbox_lag_seconds",
        GaugeMetricFamily,
        "database",
        (),
        "How long the oldest outbox message has been due.",
    ),
    Described(
        "outbox_refused_messages",
        GaugeMetricFamily,
        "database",
        (),
        "Outbox messages that the broker has refused at least once and not taken yet.",
    ),
    Described(
        "deliveries_suppressed",
        CounterMetricFamily,
        "database",
        ("kind",),
        "Deliveries that ran nothing: the key was done, in use, or belongs to another payload.",
    ),
    Described(
        "claims_lapsed",
        GaugeMetricFamily,
        "database",
        (),
        "External calls whose lease has been over for a minute, and that nobody has taken over.",
    ),
    Described(
        "swept",
        CounterMetricFamily,
        "database",
        (),
        "Messages that the sweeper has sent again, since their executions were gone and nobody delivered them.",
    ),
    Described(
        "key_watermark_timestamp_seconds",
        GaugeMetricFamily,
        "database",
        (),
        "The time up to which idempotency keys are forgotten, in seconds since 1970; 0 while all are kept.",
    ),
    Described(
        "queue_messages_ready",
        GaugeMetricFamily,
        "broker",
        ("queue",),
        "Messages in a queue that wait for a worker.",
    ),
    Described(
        "queue_messages_unacked",
        GaugeMetricFamily,
        "broker",
        ("queue",),
        "Messages of a queue that workers hold and have not settled.",
    ),
    Described("queue_consumers", GaugeMetricFamily, "broker", ("queue",), "Consumers of a queue."),
)
"""Every metric, in the order in which it is exposed."""


def exposed(metric: Described) -> str:
    """The name as Prometheus sees it."""
    return f"{PREFIX}_{metric.name}" + ("_total" if metric.kind is CounterMetricFamily else "")


class ReliableCollector(Collector):
    """Reads everything anew at each scrape; a source that is away is told by `source_up` and costs its own only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = create_engine(settings.database.url_text(), pool_size=2)

    def collect(self) -> Iterator[Metric]:
        """All families, for one scrape."""
        families = {described.name: described.family() for described in METRICS}
        families["build_info"].add_metric(list(versions()), 1)
        for source, read in (("database", self._read_database), ("broker", self._read_broker)):
            up = self._attempted(source, read, families)
            families["source_up"].add_metric([source], int(up))
            if not up:
                for described in METRICS:
                    if described.source == source:
                        families.pop(described.name)
        yield from families.values()

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()

    def _attempted(
        self, source: str, read: Callable[[dict[str, Any]], None], families: dict[str, Any]
    ) -> bool:
        try:
            read(families)
        except ReliableTasksError as error:
            log.warning("source_down", source=source, error=error.message)
            return False
        except Exception as error:
            log.warning("source_down", source=source, error=f"{type(error).__name__}: {error}")
            return False
        return True

    def _read_database(self, families: dict[str, Any]) -> None:
        with measurements.snapshot(self._engine, seconds=DATABASE_SECONDS) as connection:
            size, rows = measurements.results_size(connection)
            families["results_table_bytes"].add_metric([], size)
            families["results_table_rows"].add_metric([], rows)
            for state, count in measurements.states(connection):
                families["results"].add_metric([state], count)
            for task, state, count in measurements.completed(connection):
                families["completed"].add_metric([task, state], count)
            for task, count, seconds in measurements.durations(connection):
                families["duration_seconds"].add_metric([task], count, seconds)
                families["duration_average_seconds"].add_metric([task], seconds / count)
            for queue, reason, count, age in measurements.open_dead_letters(connection):
                families["dead_letters_open"].add_metric([queue, reason], count)
                families["dead_letters_oldest_age_seconds"].add_metric([queue, reason], age)
            outbox = measurements.outbox(connection)
            families["outbox_messages"].add_metric([], outbox["waiting"])
            families["outbox_due_messages"].add_metric([], outbox["due"])
            families["outbox_lag_seconds"].add_metric([], outbox["lag"])
            families["outbox_refused_messages"].add_metric([], outbox["refused"])
            families["claims_lapsed"].add_metric([], measurements.lapsed_claims(connection))
            families["swept"].add_metric([], measurements.sent_again(connection))
            families["key_watermark_timestamp_seconds"].add_metric([], measurements.key_watermark(connection))
            kinds = {**dict.fromkeys(SUPPRESSED_KINDS, 0), **dict(measurements.suppressed(connection))}
            for kind, count in kinds.items():
                families["deliveries_suppressed"].add_metric([kind], count)

    def _read_broker(self, families: dict[str, Any]) -> None:
        broker = self._settings.broker
        management = Management(broker.management_url, broker.url_text(), seconds=BROKER_SECONDS)
        for name, depth in sorted(management.depths().items()):
            families["queue_messages_ready"].add_metric([name], depth.ready)
            families["queue_messages_unacked"].add_metric([name], depth.unacked)
            families["queue_consumers"].add_metric([name], depth.consumers)


def versions() -> tuple[str, str, str]:
    """Of this program, of Python and of Celery."""
    return _version("reliable-tasks"), platform.python_version(), _version("celery")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
