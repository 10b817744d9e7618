"""JSON and nothing else: pickle runs what it reads, and YAML and msgpack can be made to."""

from typing import Any

from reliable_tasks.errors import ArgumentError, SettingError

_JSON = ("json", "application/json")
_LISTS = ("accept_content", "result_accept_content")
_SINGLE = ("task_serializer", "result_serializer", "event_serializer")


def refuse_other_serializers(conf: Any) -> None:
    """Refuse an application whose settings would have Celery read anything else.

    Raises:
        SettingError: naming the settings.
    """
    wrong = [f"{name}={conf[name]!r}" for name in _SINGLE if conf[name] not in _JSON]
    wrong += [f"{name}={conf[name]!r}" for name in _LISTS if set(conf[name] or ()) - set(_JSON)]
    if wrong:
        raise SettingError(
            f"Celery is told to read or write other than JSON: {', '.join(wrong)}",
            hint="leave these settings out; arguments keep Decimal, dates and UUID in JSON, too",
        )


def refuse_serializer(name: str, task: str) -> None:
    """Refuse to send what every worker would make a dead letter of.

    Raises:
        ArgumentError: when the serializer is not JSON.
    """
    if name not in _JSON:
        raise ArgumentError(
            f"task {task} cannot be sent as {name}: workers read JSON only",
            hint="leave `serializer` and `task_serializer` out",
        )
