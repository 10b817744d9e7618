"""A task that is sent again without options is sent as the first time: its message is written over that one's."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reliable_tasks.model.envelope import Message
from reliable_tasks.worker.messages_alike import Alike, alike_of, nobody_interferes, settings_are_usual
from reliable_tasks.worker.publishing import publishes_at_once, redirect


@dataclass(frozen=True)
class _Pattern:
    """How a task's messages are made, as long as neither its application's settings nor its attributes change."""

    alike: Alike | None
    layers: int
    settings: dict[str, Any]
    attributes: dict[str, Any]

    def holds(self, task: Any) -> bool:
        conf = task.app.conf
        return (
            self.layers == len(conf.maps) and self.settings == conf.changes and self.attributes == vars(task)
        )


class Patterns(threading.local):
    """Those of an application's tasks, by name. Of each thread, which is where Celery expects replies."""

    def __init__(self) -> None:
        self.known: dict[str, _Pattern] = {}


def send_alike(task: Any, args: Any, kwargs: Any, options: Mapping[str, Any], send: Callable[[], Any]) -> Any:
    """Send a task; `send` is how Celery does it, for the first message and for all that may differ from it.

    Raises:
        ArgumentError, MessageTooLarge, PublishError: as `send` does.
    """
    app = task.app
    if not (
        options.keys() <= {"task_id"} and app.sends_plainly and publishes_at_once() and nobody_interferes(app)
    ):
        return send()
    pattern = app.patterns.known.get(task.name)
    if pattern is None or not pattern.holds(task):
        return send() if app.conf.task_always_eager else _first(task, args, kwargs, send)
    if pattern.alike is None:
        return send()
    result, message = pattern.alike.made(args, kwargs, options.get("task_id"))
    app.runtime.publisher.publish(message)
    return result


def _first(task: Any, args: Any, kwargs: Any, send: Callable[[], Any]) -> Any:
    """Send it as Celery does, and keep what was made of it."""
    messages: list[Message] = []
    with redirect(messages.append):
        result = send()
    usual = settings_are_usual(task.app) and task.sends_plainly
    alike = alike_of(task, messages, result, args, kwargs) if usual else None
    conf = task.app.conf
    task.app.patterns.known[task.name] = _Pattern(alike, len(conf.maps), dict(conf.changes), dict(vars(task)))
    task.app.runtime.send_all(messages)
    return result
