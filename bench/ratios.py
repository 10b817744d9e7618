"""What a run comes to: medians of ratios that were taken within a round, and our own figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.entries import PUBLISH_MANY, RELAY
from bench.measuring import Record
from bench.raw import ONE_TRANSACTION, OUR_BYTES, PIPELINED
from bench.systems import ours, ours_missing


@dataclass(frozen=True)
class Ratio:
    """How much more of a field one has than the other.

    Args:
        task: whose configurations of ours are candidates: the best of them, by its median, stands for us.
        ours: or the name of the entry.
        less_is_more: a time instead of a rate.
    """

    theirs: str
    field: str = "rate"
    task: str = ""
    ours: str = ""
    their_field: str = ""
    less_is_more: bool = False


RATIOS = {
    "drain_vs_stock": Ratio("celery-stock", task="work_none"),
    "drain_vs_noresult": Ratio("celery-noresult", task="work_none"),
    "drain_vs_dramatiq": Ratio("dramatiq", task="work_none"),
    "transfer_vs_hand": Ratio("celery-transfer", task="transfer"),
    "transfer_vs_ceiling": Ratio(ONE_TRANSACTION, task="transfer"),
    "transfer_batch_vs_hand": Ratio("celery-transfer", task="transfer_batched"),
    "publish_many_vs_delay": Ratio("celery-stock", "publish_rate", ours=PUBLISH_MANY),
    "apply_async_vs_delay": Ratio("celery-stock", "publish_rate", task="work_none"),
    "chord_vs_stock": Ratio("celery-stock-chord", "chord_seconds", ours="ours-chord", less_is_more=True),
}

BESIDE = {
    "drain_prefork_vs_stock": Ratio("celery-stock", ours="ours-none-prefork2"),
    "drain_watched_vs_stock": Ratio("celery-stock", task="work_watched"),
    "drain_database_vs_stock": Ratio("celery-stock", task="work_database"),
    "drain_external_vs_stock": Ratio("celery-stock", task="work_external"),
    "drain_vs_taskiq": Ratio("taskiq", task="work_none"),
    "transfer_session_vs_hand": Ratio("celery-transfer", task="transfer_session"),
    "transfer_session_vs_ceiling": Ratio(ONE_TRANSACTION, task="transfer_session"),
    "transfer_session_batch_vs_hand": Ratio("celery-transfer", task="transfer_session_batched"),
    "memory_vs_stock": Ratio("celery-stock", "pss_mib", ours="ours-none-prefork2"),
    "relay_vs_delay": Ratio("celery-stock", "publish_rate", ours=RELAY),
    "publish_many_vs_raw": Ratio(PIPELINED, "publish_rate", ours=PUBLISH_MANY, their_field="rate"),
    "publish_many_vs_raw_with_headers": Ratio(
        OUR_BYTES, "publish_rate", ours=PUBLISH_MANY, their_field="rate"
    ),
    "relay_vs_raw": Ratio(PIPELINED, "publish_rate", ours=RELAY, their_field="rate"),
}
"""Printed beside them."""

_MISSING = {
    "ours-chord": ours_missing.chord_by_counter,
}


class Run:
    """The records of a run, by name and round."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._good: dict[str, dict[int, Record]] = {}
        self.errors: dict[str, str] = {}
        for record in records:
            if "error" in record:
                self.errors[record["system"]] = record["error"]
            else:
                self._good.setdefault(record["system"], {})[record["round"]] = record

    @property
    def names(self) -> list[str]:
        """Of everything that was measured."""
        return list(self._good)

    def of(self, name: str) -> list[Record]:
        """Its records, oldest first."""
        return [record for _, record in sorted(self._good.get(name, {}).items())]

    def values(self, name: str, field: str) -> list[float]:
        """A field of all rounds; `latency.p50_ms` is one within another."""
        found = (_field(record, field) for record in self.of(name))
        return [value for value in found if value is not None]

    def middle(self, name: str, field: str) -> float | None:
        """Its median."""
        values = self.values(name, field)
        return median(values) if values else None

    def best(self, task: str) -> str | None:
        """The configuration of ours that does this task fastest."""
        rates = {one.name: self.middle(one.name, "rate") for one in ours.SYSTEMS if one.task == task}
        measured = {name: rate for name, rate in rates.items() if rate is not None}
        return max(measured, key=measured.__getitem__) if measured else None

    def quotients(self, ratio: Ratio) -> list[float]:
        """One for each round that has both."""
        mine = self.best(ratio.task) if ratio.task else ratio.ours
        if mine is None:
            return []
        theirs = ratio.theirs.format(_connections(mine))
        found = []
        for number, record in self._good.get(mine, {}).items():
            above = _field(record, ratio.field)
            below = _field(self._good.get(theirs, {}).get(number, {}), ratio.their_field or ratio.field)
            if above and below:
                found.append(below / above if ratio.less_is_more else above / below)
        return found

    def why_not(self, ratio: Ratio) -> str:
        """Why a ratio is not there."""
        missing = _MISSING.get(ratio.ours or ratio.task, lambda: None)()
        sides = [ratio.ours] if ratio.ours else [one.name for one in ours.SYSTEMS if one.task == ratio.task]
        failed = [f"{name}: {self.errors[name]}" for name in (*sides, ratio.theirs) if name in self.errors]
        return (
            missing
            or "; ".join(failed)
            or f"{ratio.ours or ratio.task} and {ratio.theirs.format(2)} are not in this run"
        )


def ratios_of(run: Run, wanted: Mapping[str, Ratio] = RATIOS) -> dict[str, dict[str, Any]]:
    """For each its `median`, `least` and `most`, or a `reason` why it is not there."""
    told: dict[str, dict[str, Any]] = {}
    for name, ratio in wanted.items():
        found = run.quotients(ratio)
        if found:
            spread = {"median": median(found), "least": min(found), "most": max(found)}
            told[name] = {key: float(f"{value:.4g}") for key, value in spread.items()} | {
                "rounds": len(found)
            }
        else:
            told[name] = {"reason": run.why_not(ratio)}
    return told


def figures_of(run: Run) -> dict[str, float | None]:
    """Our own, of small tasks in the best topology."""
    best = run.best("work_none") or ""
    return {
        "latency_p50_ms": run.middle(best, "latency.p50_ms"),
        "latency_p99_ms": run.middle(best, "latency.p99_ms"),
        "commits_per_task": run.middle(best, "commits_per_task"),
        "worker_cpu_s_per_1k": run.middle(best, "worker_cpu_s_per_1k"),
        "wal_syncs_per_task": run.middle(best, "wal_syncs_per_task"),
        "pss_mib": run.middle(best, "pss_mib"),
    }


def _connections(name: str) -> int:
    found = [one.topology.count for one in ours.SYSTEMS if one.name == name]
    return found[0] if found else 1


def _field(record: Record, field: str) -> float | None:
    value: Any = record
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return None if value is None else float(value)
