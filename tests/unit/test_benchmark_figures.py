"""What a run of the benchmark comes to: ratios within a round, the best of ours, and a reason for what is missing."""

from typing import Any

from bench import page, report
from bench.ratios import RATIOS, Run, ratios_of
from tests.programs import ROOT

LISTED = {
    "drain_vs_stock", "drain_vs_noresult", "drain_vs_dramatiq", "transfer_vs_hand", "transfer_vs_ceiling",
    "transfer_batch_vs_hand", "publish_many_vs_delay", "apply_async_vs_delay", "chord_vs_stock",
}  # fmt: skip


def _record(name: str, round_: int, rate: float, **more: Any) -> dict[str, Any]:
    return {"system": name, "round": round_, "tasks": 10, "rate": rate, "publish_rate": 100.0, **more}


RECORDS = [
    _record("celery-stock", 0, 100),
    _record("ours-none-prefork2", 0, 200),
    _record("ours-none-solo2", 0, 300, latency={"p50_ms": 4.0, "p99_ms": 9.0}, commits_per_task=0.5),
    # the machine has become slower by half
    _record("celery-stock", 1, 50),
    _record("ours-none-prefork2", 1, 100),
    _record("ours-none-solo2", 1, 150, latency={"p50_ms": 6.0, "p99_ms": 9.0}, commits_per_task=0.5),
    {"system": "dramatiq", "round": 0, "error": "OSError: no Redis"},
]


def test_the_listed_ratios_are_there_each_with_a_figure_or_a_reason() -> None:
    told = ratios_of(Run(RECORDS))
    assert set(told) == set(RATIOS) == LISTED
    assert all(("median" in one) != bool(one.get("reason")) for one in told.values())


def test_a_ratio_is_taken_within_a_round_and_of_the_best_of_ours() -> None:
    told = ratios_of(Run(RECORDS))["drain_vs_stock"]
    assert told == {"median": 3.0, "least": 3.0, "most": 3.0, "rounds": 2}


def test_what_failed_says_why() -> None:
    told = ratios_of(Run(RECORDS))
    assert told["drain_vs_dramatiq"]["reason"] == "dramatiq: OSError: no Redis"
    assert told["publish_many_vs_delay"] == {
        "reason": "ours-publish-many and celery-stock are not in this run"
    }


def test_a_time_that_is_shorter_is_a_ratio_above_one() -> None:
    chords = [("celery-stock-chord", 12.0), ("ours-chord", 3.0)]
    run = Run([{"system": name, "round": 0, "tasks": 10, "chord_seconds": took} for name, took in chords])
    assert run.quotients(RATIOS["chord_vs_stock"]) == [4.0]


def test_the_object_that_is_printed_has_what_others_rely_on() -> None:
    told = report.report_of(RECORDS, {"entries": {}})
    assert set(told["ratios"]) == LISTED
    assert told["ratios"]["drain_vs_stock"] == 3.0
    figures = {"latency_p50_ms", "latency_p99_ms", "commits_per_task", "worker_cpu_s_per_1k"}
    assert figures <= set(told["figures"])
    assert told["figures"]["latency_p50_ms"] == 5.0
    assert told["best"]["work_none"] == "ours-none-solo2"


def test_the_page_holds_what_is_recorded_and_nothing_else() -> None:
    assert page.replaced(page.PAGE.read_text(), page.figures(page.recorded())) == page.PAGE.read_text()
    assert page.figures(None) == "No run is recorded yet."


def test_the_readme_leads_there() -> None:
    assert "(docs/performance.md)" in (ROOT / "README.md").read_text()
