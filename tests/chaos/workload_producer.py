"""A sender in a process of its own; goes on after the last thing it tried when it is started again.

Says what became of each send: ok, fail (certainly nothing was accepted) or unknown.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
from sqlalchemy.orm import Session

from reliable_tasks.broker.publisher import Publisher
from reliable_tasks.errors import PublishUnconfirmed, ReliableTasksError
from reliable_tasks.operate import tasks as operate
from reliable_tasks.store.engine import create_engine
from tests.chaos import workload_app
from tests.chaos.broker_faults import of_all_nodes
from tests.chaos.history import HISTORY, History

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.1
CONFIRM_SECONDS = 1.0
CANCEL_SECONDS = 5.0
_TOLD = ("id", "name", "key", "kind", "mark", "amount", "source", "target", "children", "n")


class Producer:
    """Sends a plan and writes the history of it."""

    def __init__(self, history: History) -> None:
        self._history = history
        settings = workload_app.app.runtime.settings
        self._broker_url = settings.broker.url_text()
        self._engine = create_engine(settings.database.url_text())
        runtime = workload_app.app.runtime
        # a second instead of ten: a sender who is told nothing must not stop the others for long
        runtime.publisher = Publisher(self._broker_url, runtime.route, deadline_seconds=CONFIRM_SECONDS)
        self._channel: Any = None

    def send(self, send: dict[str, Any]) -> None:
        """Send until it is accepted, when it insists; else once."""
        self._wait_for_gate(send)
        way: Callable[[dict[str, Any]], str] = getattr(self, f"_{send['via']}")
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._say(send, "invoke")
            phase, why = _told(way, send)
            self._say(send, phase, why=why)
            once = not send.get("insist", True) or send["kind"] == "rolled_back"
            if phase == "ok" or once or time.monotonic() > give_up:
                break
            time.sleep(PAUSE_SECONDS)  # as a sender that tries again does
        if phase == "ok" and send["kind"] == "cancelled":
            self._cancel(send["id"])

    def _wait_for_gate(self, send: dict[str, Any]) -> None:
        """Some sends wait until the harness says that it is time."""
        gate = send.get("gate")
        if gate:
            self._history.say("waits", id=send["id"])
            while not any(line["op"] == "gate" and line["name"] == gate for line in self._history.lines()):
                time.sleep(PAUSE_SECONDS)  # between looks at the history, its only way to hear of it

    def _direct(self, send: dict[str, Any]) -> str:
        task = getattr(workload_app, send["task"])
        task.apply_async(kwargs=send["kwargs"], task_id=send["id"], priority=send["priority"])
        return "ok"

    def _enqueue(self, send: dict[str, Any]) -> str:
        task = getattr(workload_app, send["task"])
        options = {"countdown": CANCEL_SECONDS} if send["kind"] == "cancelled" else {}
        session = Session(self._engine)
        try:
            workload_app.app.enqueue(
                session, task.s(**send["kwargs"]), task_id=send["id"], priority=send["priority"], **options
            )
            if send["kind"] == "rolled_back":
                session.rollback()
                return "fail"
            try:
                session.commit()
            except Exception:
                return "unknown"
        finally:
            with suppress(Exception):
                session.close()
        return "ok"

    def _raw(self, send: dict[str, Any]) -> str:
        try:
            if self._channel is None or self._channel.is_closed:
                self._channel = pika.BlockingConnection(of_all_nodes(self._broker_url)).channel()
                self._channel.confirm_delivery()
        except pika.exceptions.AMQPError:
            return "fail"
        from tests.chaos.workload_poison import publish  # only here: to make its bodies takes a while

        try:
            publish(self._channel, send["name"], send["mark"])
        except pika.exceptions.UnroutableError:
            return "fail"
        except pika.exceptions.NackError:
            # seen on 3.10: what a full queue has refused once, it goes on refusing on this channel
            self._channel.connection.close()
            return "fail"
        except pika.exceptions.AMQPError:
            self._channel = None
            return "unknown"
        return "ok"

    def _cancel(self, task_id: str) -> None:
        self._history.say("cancels", id=task_id)
        try:
            (done,) = operate.cancel(self._engine, [task_id], "chaos", "it is not wanted any more")
            outcome = done.outcome
        except ReliableTasksError:
            outcome = "unknown"
        self._history.say("cancel", id=task_id, outcome=outcome)

    def _say(self, send: dict[str, Any], phase: str, why: str = "") -> None:
        told = {name: send[name] for name in _TOLD if send.get(name) is not None} if phase == "invoke" else {}
        self._history.say(
            "send", **{"id": send["id"], "phase": phase, **told, **({"why": why} if why else {})}
        )


def _told(way: Callable[[dict[str, Any]], str], send: dict[str, Any]) -> tuple[str, str]:
    """What became of it: our errors say whether the message may have been taken, any other says nothing."""
    try:
        return way(send), ""
    except PublishUnconfirmed as error:
        return "unknown", error.code
    except ReliableTasksError as error:
        return "fail", error.code
    except Exception as error:
        # before the commit, for what is enqueued; a direct send raises nothing else, or nobody can tell
        return ("fail" if send["via"] == "enqueue" else "unknown"), repr(error)


def main() -> None:
    """Send the plan from where an earlier process of this name has stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--plan", type=Path, required=True, help="JSON lines")
    parser.add_argument("--per-second", type=float, default=1000.0, help="not faster than this")
    options = parser.parse_args()
    history = History(Path(os.environ[HISTORY]), options.name)
    tried = [line["n"] for line in history.lines() if line["by"] == options.name and "n" in line]
    sends = [json.loads(line) for line in options.plan.read_text().splitlines()]
    producer = Producer(history)
    begun = time.monotonic()
    for count, send in enumerate(one for one in sends if one["n"] > max(tried, default=-1)):
        time.sleep(
            max(0.0, begun + count / options.per_second - time.monotonic())
        )  # the pace that was asked for
        producer.send(send)
    history.say("sent")


if __name__ == "__main__":
    sys.exit(main())
