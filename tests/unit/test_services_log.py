"""What `reliable-tasks services` says while nothing answers."""

from pathlib import Path

from tests.programs import program
from tests.waiting import wait_until

LOOPS = ("relay", "collector", "sweeper")


def test_each_loop_says_in_one_line_what_to_check(tmp_path: Path) -> None:
    log = tmp_path / "log"
    nowhere = {
        "RELIABLE_TASKS_BROKER_URL": "amqp://me:secret@127.0.0.1:1/",
        "RELIABLE_TASKS_DATABASE_URL": "postgresql://me:secret@127.0.0.1:1/none",
    }

    def told() -> list[str]:
        lines = log.read_text().rpartition("\n")[0].splitlines()
        return lines if all(any(f"loop={loop}" in line for line in lines) for loop in LOOPS) else []

    command = ("reliable_tasks.cli.main", "services", "-A", "examples.payments.app:app")
    with program(log, *command, **nowhere):
        first, *failures = wait_until(told, "each loop has failed once", 60)
    assert first == "services: all loops"
    assert [line for line in failures if "pass_failed" not in line or "(hint: " not in line] == []
    assert "secret" not in log.read_text()
