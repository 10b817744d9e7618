"""The exporter: every event counted once, a dead source told and not fatal, the program ends when told to."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Connection

from reliable_tasks.model.states import TaskState
from reliable_tasks.observe.endpoint import MetricsEndpoint
from reliable_tasks.settings import Settings, load_settings
from reliable_tasks.store import attempts, dead_letters, results
from tests.waiting import wait_until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def connection(engine: Any) -> Iterator[Connection]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


def scraped(url: str) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30) as answer:
        return str(answer.read().decode())


def samples(text: str) -> Samples:
    return {
        (sample.name.removeprefix("reliable_tasks_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


def finish(connection: Connection, task_id: str, state: TaskState, **values: Any) -> None:
    ended = {"name": "pay", "queue": "payments", "started_at": NOW, "finished_at": NOW + timedelta(seconds=2)}
    results.store(connection, task_id, state, {**ended, **values})


def attempt(connection: Connection, task_id: str, state: str, seconds: float) -> None:
    attempts.add(
        connection,
        {
            "task_id": task_id,
            "name": "pay",
            "attempt": 1,
            "state": state,
            "started_at": NOW,
            "finished_at": NOW + timedelta(seconds=seconds),
        },
    )


def bury(connection: Connection, task_id: str, reason: str, **values: Any) -> None:
    row = {
        "task_id": task_id,
        "replay": 0,
        "task_name": "pay",
        "reason": reason,
        "queue": "payments",
        "body": b"[]",
        "headers": {},
        "properties": {},
    }
    dead_letters.add(connection, {**row, **values})


def test_n_events_are_n_counted(settings: Settings, connection: Connection) -> None:
    for number in range(7):
        finish(connection, f"ok{number}", TaskState.SUCCEEDED)
        attempt(connection, f"ok{number}", "succeeded", 2)
    attempt(connection, "bad0", "failed", 100)
    for number in range(3):
        finish(connection, f"bad{number}", TaskState.DEAD, reason="permanent")
        bury(connection, f"bad{number}", "permanent", first_seen=NOW)
    bury(connection, "unsure", "uncertain")
    for number in range(5):
        attempts.suppress(connection, f"again{number}", "pay", "k", "duplicate")
    with MetricsEndpoint(settings) as endpoint:
        found = samples(scraped(endpoint.url))
    assert value(found, "completed_total", task="pay", state="succeeded") == 7
    assert value(found, "completed_total", task="pay", state="dead") == 3
    assert value(found, "completed_total", task="pay", state="uncertain") == 1
    assert value(found, "results", state="succeeded") == 7
    assert value(found, "results_table_rows") == 10
    assert (value(found, "results_table_bytes") or 0) > 8192
    assert value(found, "duration_seconds_count", task="pay") == 7
    assert value(found, "duration_seconds_sum", task="pay") == 14
    assert value(found, "duration_average_seconds", task="pay") == 2
    assert value(found, "dead_letters_open", queue="payments", reason="permanent") == 3
    oldest = value(found, "dead_letters_oldest_age_seconds", queue="payments", reason="permanent")
    assert oldest == pytest.approx((datetime.now(UTC) - NOW).total_seconds(), abs=60)
    assert value(found, "deliveries_suppressed_total", kind="duplicate") == 5
    assert value(found, "deliveries_suppressed_total", kind="conflict") == 0
    assert value(found, "source_up", source="database") == 1


def test_a_counter_does_not_go_back_when_results_are_deleted(
    settings: Settings, connection: Connection
) -> None:
    for number in range(4):
        finish(connection, f"t{number}", TaskState.SUCCEEDED)
    connection.exec_driver_sql("DELETE FROM celery_taskmeta WHERE task_id IN ('t0', 't1', 't2')")
    with MetricsEndpoint(settings) as endpoint:
        found = samples(scraped(endpoint.url))
    assert value(found, "results_table_rows") == 1
    assert value(found, "completed_total", task="pay", state="succeeded") == 4


def test_names_that_only_a_message_gave_make_no_time_series(
    settings: Settings, connection: Connection
) -> None:
    for number in range(9):
        bury(connection, f"t{number}", "unknown_task", task_name=f"made.up.{number}")
    with MetricsEndpoint(settings) as endpoint:
        found = samples(scraped(endpoint.url))
    assert [labels for name, labels in found if name == "completed_total"] == [
        (("state", "dead"), ("task", ""))
    ]
    assert value(found, "completed_total", task="", state="dead") == 9


@pytest.mark.usefixtures("applied_shape")
def test_queue_depths_come_from_the_broker(settings: Settings, channel: Any) -> None:
    for _ in range(3):
        channel.basic_publish("", "payments", b"order")
    with MetricsEndpoint(settings) as endpoint:
        wait_until(
            lambda: value(samples(scraped(endpoint.url)), "queue_messages_ready", queue="payments") == 3,
            "three messages counted in payments",
        )


@pytest.mark.usefixtures("applied_shape")
@pytest.mark.parametrize(
    ("dead", "living", "missing", "present"),
    [
        ("database", "broker", "results_table_rows", "queue_consumers"),
        ("broker", "database", "queue_consumers", "results_table_rows"),
    ],
)
def test_a_dead_source_is_told_and_the_other_still_read(
    settings: Settings, dead: str, living: str, missing: str, present: str
) -> None:
    broken = load_settings(
        {},
        broker_url=settings.broker.url_text(),
        database_url="postgresql://u:p@127.0.0.1:1/x" if dead == "database" else settings.database.url_text(),
        management_url="http://127.0.0.1:1" if dead == "broker" else settings.broker.management_url,
    )
    with MetricsEndpoint(broken) as endpoint:
        text = scraped(endpoint.url)
    found = samples(text)
    assert value(found, "source_up", source=dead) == 0
    assert value(found, "source_up", source=living) == 1
    assert f"reliable_tasks_{missing}" not in text
    assert f"reliable_tasks_{present}" in text


def test_the_program_prints_its_url_and_ends_with_sigterm(settings: Settings, tmp_path: Any) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "RELIABLE_TASKS_BROKER_URL": settings.broker.url_text(),
        "RELIABLE_TASKS_DATABASE_URL": settings.database.url_text(),
        "RELIABLE_TASKS_MANAGEMENT_URL": str(settings.broker.management_url),
    }
    program = [sys.executable, "-m", "reliable_tasks.cli.main", "exporter", "--port", "0"]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert value(samples(scraped(url)), "source_up", source="database") == 1
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=15) == 0
        finally:
            process.kill()


def test_a_taken_port_is_one_clear_line(settings: Settings, tmp_path: Any) -> None:
    with MetricsEndpoint(settings) as endpoint:
        program = [sys.executable, "-m", "reliable_tasks.cli.main", "exporter", "--port", str(endpoint.port)]
        done = subprocess.run(
            program, capture_output=True, text=True, timeout=30, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}
        )
    assert done.returncode == 1
    assert "error[RT101]" in done.stderr
    assert f"127.0.0.1:{endpoint.port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("applied_shape")
@pytest.mark.skipif(
    shutil.which("promtool") is None and "CI" not in os.environ,
    reason="promtool is not installed (apt: prometheus)",
)
def test_promtool_has_nothing_to_say(settings: Settings, connection: Connection) -> None:
    finish(connection, "t", TaskState.SUCCEEDED)
    attempt(connection, "t", "succeeded", 1)
    bury(connection, "d", "permanent")
    with MetricsEndpoint(settings) as endpoint:
        text = scraped(endpoint.url)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
