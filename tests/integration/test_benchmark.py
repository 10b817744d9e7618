"""The machinery of `make bench-quick`, with very few tasks: ours and stock Celery. No time is asserted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.addresses import VHOST, Addresses
from bench.entries import Whole
from bench.measuring import Sizes
from bench.report import report_of
from bench.rounds import run_rounds
from bench.systems import find
from bench.systems.ours import TEMPLATE
from reliable_tasks.dev import Stack

CONFIGURATIONS = ("celery-stock", "ours-none-prefork2")
FEW = Sizes(published=5, share=0.001, seconds=0.01, calls=0)


@pytest.fixture
def addressed(reliable_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The session's services, said in the environment as a run says them."""
    for name, value in Addresses.of(reliable_stack, "", tmp_path).environment().items():
        monkeypatch.setenv(name, value)
    yield
    reliable_stack.drop_database(TEMPLATE)
    reliable_stack.delete_vhost(VHOST)


@pytest.mark.slow
@pytest.mark.timeout(300)  # it starts seven programs, and where it runs others may
def test_ours_and_stock_celery_are_published_drained_and_compared(addressed: None, tmp_path: Path) -> None:
    entries = [Whole(find(name), FEW) for name in CONFIGURATIONS]
    records = run_rounds(entries, 1, 1.0, tmp_path / "records.jsonl")
    report = report_of(records, {"entries": {}})
    assert report["errors"] == {}
    assert [record["tasks"] for record in records] == [10, 10]
    assert report["ratios"]["drain_vs_stock"] is not None
    assert report["ratios"]["apply_async_vs_delay"] is not None
    assert report["systems"]["celery-stock"]["commits_per_task"] >= 1
    assert report["systems"]["ours-none-prefork2"]["commits_per_task"] >= 1 / 10
