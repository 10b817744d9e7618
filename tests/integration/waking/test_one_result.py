"""Who waits for a result is called when it is committed, and gets it when he is not called, too."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery.exceptions import TimeoutError
from sqlalchemy import text

from reliable_tasks.dev import throwaway_stack
from reliable_tasks.store import announcing, listening
from reliable_tasks.store.ended import CHANNEL, NOBODY_HEARS, take_noted
from reliable_tasks.store.engine import begin, create_engine
from reliable_tasks.store.identity import new_id
from reliable_tasks.store.migrations import upgrade
from tests.integration.waking.conftest import NEVER, Ends, Waits, backend_at, waits_at
from tests.programs import python
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("installed_services")


def test_a_commit_calls_who_waits(waits: Waits, ends: Ends, task_id: str) -> None:
    for known in (task_id, str(new_id())):
        waiting = waits.for_task(known)
        ends.succeed(known, value=[known])
        assert waiting.result(30) == [known]


def test_that_nobody_listens_is_known_and_that_somebody_does(waits: Waits, ends: Ends, task_id: str) -> None:
    question = text(f"SELECT {NOBODY_HEARS}")

    def nobody_hears() -> bool:
        with ends.engine.connect() as connection:
            return bool(connection.execute(question).scalar_one())

    assert nobody_hears()
    waiting = waits.for_task(task_id)
    wait_until(lambda: not nobody_hears(), "the listener is there")
    assert not nobody_hears()
    ends.succeed(task_id)
    waiting.result(30)


def test_a_failure_calls_who_waits(waits: Waits, ends: Ends, task_id: str) -> None:
    waiting = waits.for_task(task_id)
    ends.fail(task_id, "no funds")
    with pytest.raises(ValueError, match="no funds"):
        waiting.result(30)


def test_a_result_that_nobody_told_of_is_found(waits: Waits, ends: Ends, task_id: str) -> None:
    waiting = waits.for_task(task_id, interval=0.5)
    ends.succeed_unheard(task_id)
    assert waiting.result(30) == "done"


def test_what_is_rolled_back_calls_nobody(ends: Ends, task_id: str) -> None:
    with pytest.raises(ZeroDivisionError):
        ends.succeed_and_roll_back(task_id)
    with begin(ends.engine) as connection:
        assert take_noted(connection) == []


def test_the_timeout_counts_while_nothing_comes(waits: Waits, task_id: str) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        waits.app.AsyncResult(task_id).get(timeout=0.3, interval=NEVER)
    assert 0.3 <= time.monotonic() - began < 20


def test_a_connection_that_the_server_ends_is_made_again(waits: Waits, ends: Ends, task_id: str) -> None:
    waiting = waits.for_task(task_id)
    (first,) = wait_until(waits.connections, "the listener is seen")
    end = text("SELECT pg_terminate_backend(:pid)")
    with ends.engine.begin() as connection:
        connection.execute(end, {"pid": first})
    second = wait_until(lambda: [pid for pid in waits.connections() if pid != first], "another one")
    assert second
    ends.succeed(task_id)
    assert waiting.result(30) == "done"


def test_what_ended_unheard_is_found_when_the_connection_is_made_again(
    waits: Waits, ends: Ends, task_id: str
) -> None:
    waiting = waits.for_task(task_id)
    ends.succeed_unheard(task_id)
    with ends.engine.begin() as connection:
        for pid in waits.connections():
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    assert waiting.result(30) == "done"


def test_the_announcers_connection_may_end_too(waits: Waits, ends: Ends, task_id: str) -> None:
    ends.succeed(f"{task_id}-before")
    (announcer,) = wait_until(lambda: waits.connections("reliable_tasks announcer"), "it is seen")
    waiting = waits.for_task(task_id)
    with waits.engine.begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": announcer})
    ends.succeed(task_id)
    assert waiting.result(30) == "done", "it calls everybody when it can again"


def test_what_others_send_in_the_channel_disturbs_nobody(waits: Waits, ends: Ends, task_id: str) -> None:
    waiting = waits.for_task(task_id)
    with ends.engine.begin() as connection:
        for payload in ("", "x", "*" * 7999, "\u20ac\u0001", "*"):
            connection.execute(text("SELECT pg_notify(:c, :p)"), {"c": CHANNEL, "p": payload})
    ends.succeed(task_id)
    assert waiting.result(30) == "done"


def test_all_threads_of_a_process_share_one_connection(waits: Waits, ends: Ends, task_id: str) -> None:
    names = [f"{task_id}-{number}" for number in range(20)]
    waiting = [waits.for_task(name) for name in names]
    assert len(waits.connections()) == 1
    for name in reversed(names):
        ends.succeed(name, value=name)
    assert [one.result(30) for one in waiting] == names


def test_the_connections_are_closed_when_nobody_waits_and_nothing_ends(
    waits: Waits, ends: Ends, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "_IDLE_SECONDS", 0.1)
    monkeypatch.setattr(announcing, "_IDLE_SECONDS", 0.1)
    waiting = waits.for_task(task_id)
    ends.succeed(task_id)
    assert waiting.result(30) == "done"
    for name in ("reliable_tasks listener", "reliable_tasks announcer"):
        wait_until(lambda name=name: not waits.connections(name), f"{name} is gone")  # type: ignore[misc]
    again = waits.for_task(f"{task_id}-again")
    ends.succeed(f"{task_id}-again")
    assert again.result(30) == "done"


def test_postgres_is_restarted_while_somebody_waits(threads: ThreadPoolExecutor, task_id: str) -> None:
    with throwaway_stack() as stack:
        url = stack.create_database("restarted")
        upgrade(url)
        waits, ends = waits_at(url, threads), Ends(create_engine(url))
        waiting = waits.for_task(task_id)
        stack.database.restart("immediate")
        ends.succeed(task_id, value="after")
        assert waiting.result(60) == "after"
        waits.listener.close()


FORKS = """
import os, sys
from celery import Celery
app = Celery("forks", backend=sys.argv[1])
name = sys.argv[2]
print(app.AsyncResult(name + "-parent").get(timeout=60, interval=300), flush=True)
if (child := os.fork()) == 0:
    print(app.AsyncResult(name + "-child").get(timeout=60, interval=300), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(app.AsyncResult(name + "-later").get(timeout=60, interval=300), flush=True)
"""


def test_a_process_that_forks_hears_on_and_so_does_its_child(
    fresh_database: str, threads: ThreadPoolExecutor, waits: Waits, ends: Ends, task_id: str
) -> None:
    running = threads.submit(python, "-c", FORKS, backend_at(fresh_database), task_id)
    known: set[int] = set()
    for name in ("parent", "child", "later"):
        if name != "later":  # the parent's connection is there already
            fresh = wait_until(lambda: set(waits.connections()) - known, f"the {name} listens")  # noqa: B023
            known |= fresh
        ends.succeed(f"{task_id}-{name}", value=name)
    done = running.result(90)
    assert done.stdout.split() == ["parent", "child", "later"], done.stderr
    wait_until(lambda: not waits.connections(), "no connection is left behind")


WAITS_FOR_EVER = """
import sys, threading
from celery import Celery
app = Celery("ends", backend=sys.argv[1])
threading.Thread(target=app.AsyncResult(sys.argv[2]).get, daemon=True).start()
print(app.AsyncResult(sys.argv[2] + "-done").get(timeout=60))
"""


def test_a_process_that_ends_leaves_no_connection_and_does_not_hang(
    fresh_database: str, waits: Waits, ends: Ends, task_id: str
) -> None:
    ends.succeed(f"{task_id}-done")
    done = python("-c", WAITS_FOR_EVER, backend_at(fresh_database), task_id)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    wait_until(lambda: not waits.connections(), "no connection is left behind")


def test_a_process_that_is_killed_before_it_could_tell_loses_no_result(
    fresh_database: str, waits: Waits, task_id: str
) -> None:
    code = (
        "import os, signal, sys\n"
        "from tests.integration.waking.conftest import Ends\n"
        "from reliable_tasks.store import announcing\n"
        "from reliable_tasks.store.engine import create_engine\n"
        "announcing.Announcer.announce = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"Ends(create_engine({fresh_database!r})).succeed({task_id!r})\n"
    )
    waiting = waits.for_task(task_id, interval=0.5)
    assert python("-c", code).returncode == -signal.SIGKILL
    assert waiting.result(30) == "done"
