"""The private services: private, idempotent, restartable after any death, and gone when told to go."""

import contextlib
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pika
import psycopg2
import pytest

from reliable_tasks.dev import Stack, clean_abandoned
from reliable_tasks.dev.processes import ProcessId, end
from tests.integration.dev_program import (
    ROOT,
    alive,
    dev,
    listening,
    recorded_pids,
    start_dev,
    state_of,
    up,
    with_descendants,
)
from tests.waiting import wait_until

LOOPBACKS = {"0100007F", "00000000000000000000000001000000"}
DURABLE_QUORUM = {"x-queue-type": "quorum"}
pytestmark = pytest.mark.usefixtures("installed_services")


@pytest.fixture(scope="module")
def folder(installed_services: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running stack, which two people have started at the same moment."""
    folder = tmp_path_factory.mktemp("dev") / "stack"
    programs = [start_dev("up", folder, "--output", "json") for _ in range(2)]
    outputs = [program.communicate(timeout=120) for program in programs]
    assert [program.returncode for program in programs] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    yield folder
    dev("down", folder)


@pytest.fixture
def stack(folder: Path) -> Stack:
    """The same stack, running, for control from Python."""
    return Stack.up(folder)


def test_addresses_lead_to_both_services(folder: Path) -> None:
    addresses = up(folder)
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(addresses["broker_url"]))) as broker:
        assert broker.is_open
    with contextlib.closing(psycopg2.connect(_plain(addresses["database_url"]))) as database:
        assert database.info.parameter_status("TimeZone") == "UTC"
    assert addresses["rabbitmq_version"]
    assert addresses["postgres_version"]


def test_up_twice_is_the_same_instance(folder: Path) -> None:
    before = up(folder), recorded_pids(folder)
    assert (up(folder), recorded_pids(folder)) == before


def test_secrets_are_for_the_owner_alone(folder: Path) -> None:
    up(folder)
    for name in ("state.json", "pgpass", "rabbitmq/rabbitmq.conf", "postgres.log"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE((folder / "rabbitmq" / ".erlang.cookie").stat().st_mode) == 0o400
    state = state_of(folder)
    cookie = (folder / "rabbitmq" / ".erlang.cookie").read_text()
    for pid in with_descendants(recorded_pids(folder)):
        with contextlib.suppress(FileNotFoundError):
            argv = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
            for secret in (state["broker"]["password"], state["database"]["password"], cookie):
                assert secret not in argv


def test_passwords_are_shown_only_when_asked_for(folder: Path) -> None:
    password = state_of(folder)["broker"]["password"]
    for command in ("up", "status"):
        shown = dev(command, folder)
        assert password not in shown.out + shown.err
    settings = dict(
        line.removeprefix("export ").split("=", 1) for line in dev("env", folder).out.splitlines()
    )
    assert shlex.split(settings["RELIABLE_TASKS_BROKER_URL"]) == [up(folder)["broker_url"]]


def test_psql_finds_the_database_in_the_printed_environment(folder: Path) -> None:
    up(folder)
    script = dev("env", folder).out + "psql -Atc 'SELECT current_database()'"
    answer = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert (answer.stdout.strip(), answer.stderr) == ("reliable_tasks", "")


def test_everything_listens_on_loopback_only(folder: Path) -> None:
    up(folder)
    state = state_of(folder)
    doors = listening(with_descendants(recorded_pids(folder)))
    assert {address for address, _ in doors} <= LOOPBACKS
    expected = {port for name, port in state["broker"].items() if name.endswith("_port")}
    assert {port for _, port in doors} == expected | {state["database"]["port"]}


def test_status_says_running_stopped_and_absent(folder: Path, tmp_path: Path) -> None:
    up(folder)
    running = dev("status", folder, "--output", "json")
    assert (running.code, json.loads(running.out)["state"]) == (0, "running")
    assert dev("down", folder, "--keep-data").code == 0
    stopped = dev("status", folder, "--output", "json")
    assert (stopped.code, json.loads(stopped.out)["state"]) == (7, "stopped")
    absent = dev("status", tmp_path / "nothing", "--output", "json")
    assert (absent.code, json.loads(absent.out)["state"]) == (7, "absent")


def test_a_stack_whose_processes_were_killed_is_noticed_and_started_again(folder: Path) -> None:
    before, dead = up(folder), recorded_pids(folder)
    for pid in dead:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(dead), "the killed services to be gone")
    assert dev("status", folder).code == 7
    assert up(folder) == before
    assert not recorded_pids(folder) & dead


def test_a_killed_broker_keeps_a_confirmed_message(stack: Stack) -> None:
    url = stack.create_vhost("kill/broker")
    with _channel(url) as channel:
        channel.queue_declare("kept", durable=True, arguments=DURABLE_QUORUM)
        channel.confirm_delivery()
        persistent = pika.BasicProperties(delivery_mode=2)
        channel.basic_publish("", "kept", b"money", persistent, mandatory=True)
    stack.broker.kill()
    assert not stack.broker.running
    stack.broker.start()

    def received() -> bytes | None:
        with _channel(url) as channel:
            return channel.basic_get("kept", auto_ack=True)[2]  # type: ignore[no-any-return]

    assert wait_until(received, "the message in the queue") == b"money"
    stack.delete_vhost("kill/broker")


def test_a_user_may_do_only_what_was_granted(stack: Stack) -> None:
    stack.create_vhost("limited")
    stack.create_user("reader", "secret", "limited", configure="", write="", read=".*")
    url = stack.broker_url_for("limited").replace(stack.broker_url.split("@")[0], "amqp://reader:secret")
    with _channel(url) as channel, pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
        channel.queue_declare("mine")
    assert refused.value.reply_code == 403
    stack.delete_vhost("limited")


@pytest.mark.parametrize("death", ["kill", "fast", "immediate"])
def test_postgres_keeps_what_was_committed(stack: Stack, death: str) -> None:
    url = _plain(stack.create_database(f"death_{death}"))
    with contextlib.closing(psycopg2.connect(url)) as open_connection:
        with open_connection, open_connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept (amount numeric); INSERT INTO kept VALUES (12.50)")
        if death == "kill":
            stack.database.kill()
            assert not stack.database.running
            stack.database.start()
        else:
            stack.database.restart("fast" if death == "fast" else "immediate")
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT amount::text FROM kept")
        assert cursor.fetchall() == [("12.50",)]
    stack.drop_database(f"death_{death}")


def test_a_database_is_copied_from_a_template_in_use(stack: Stack) -> None:
    source = _plain(stack.create_database("source"))
    with contextlib.closing(psycopg2.connect(source)) as connection:
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE copied ()")
        copy = _plain(stack.create_database("copy", template="source"))
    with contextlib.closing(psycopg2.connect(copy)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM copied")
    for name in ("copy", "source"):
        stack.drop_database(name)


def test_down_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "brief"
    up(folder, "--no-fsync")
    processes = with_descendants(recorded_pids(folder))
    data = Path(state_of(folder)["database"]["home"])
    assert alive(processes)
    assert dev("down", folder).code == 0
    assert not alive(processes)
    assert not folder.exists()
    assert not data.exists()
    assert dev("down", folder).code == 0


def test_a_stack_dies_with_the_test_run_that_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = (
        "import os, signal; from reliable_tasks.dev import throwaway_stack\n"
        "with throwaway_stack(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", run], cwd=ROOT, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    (folder,) = tmp_path.glob("reliable-tasks-*/stack-*")
    processes = with_descendants(recorded_pids(folder))
    assert alive(processes)
    assert clean_abandoned() == 1
    assert not alive(processes)
    assert not folder.exists()


def test_another_process_with_a_recorded_pid_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        assert end(ProcessId(bystander.pid, "another start"), [(signal.SIGTERM, 1)])
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("variable", ["RELIABLE_TASKS_RABBITMQ_SBIN", "RELIABLE_TASKS_POSTGRES_BIN"])
def test_a_missing_program_is_named_with_what_to_do(tmp_path: Path, variable: str) -> None:
    done = dev("up", tmp_path / "never", **{variable: str(tmp_path)})
    assert done.code == 1
    assert "error[RT205]" in done.err
    assert variable in done.err
    assert "hint:" in done.err
    assert not (tmp_path / "never").exists()


def test_somebody_elses_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "theirs").write_text("precious")
    done = dev("up", tmp_path)
    assert (done.code, "error[RT205]" in done.err) == (1, True)
    assert dev("down", tmp_path).code == 0
    assert (tmp_path / "postgres" / "theirs").read_text() == "precious"


@contextlib.contextmanager
def _channel(url: str) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg2://", "postgresql://")
