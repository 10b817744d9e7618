"""Headers that a task's message must have, looked at before anybody trusts them: by the worker and by the collector."""

import math
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from reliable_tasks.errors import Undecodable
from reliable_tasks.model.envelope import CORRELATION_ID

UNREADABLE = "rt-unreadable"
"""In the place of headers that the client library cannot read: their names."""

LONGEST_NAME = 255
"""Characters of an id or a name: an index of Postgres takes no row of more than 2,700 bytes."""

DEEPEST = 32
"""Tables in tables. Far deeper ones cannot be pickled on their way to the pool, or end who reads them."""

_MOST_RETRIES = 1_000_000
_LONGEST_LIMIT = 10**9


def check_headers(headers: Mapping[str, Any]) -> None:
    """Refuse a message whose headers are not those of a task.

    Raises:
        Undecodable: naming the header.
    """
    if _are_plain(headers):
        return
    if headers.get(UNREADABLE) is not None:
        raise _refusal(UNREADABLE, "cannot be read", headers[UNREADABLE])
    if is_deeper(headers, DEEPEST):
        raise Undecodable(f"a header has more than {DEEPEST} tables in each other", hint=_HINT)
    if not deaths_can_be_counted(headers):
        raise _refusal("x-death", "must be a list of tables, or not be there", headers.get("x-death"))
    for name, (right, wanted) in _REQUIRED.items():
        if not right(headers.get(name)):
            raise _refusal(name, wanted, headers.get(name))
    for name, (right, wanted) in _OPTIONAL.items():
        value = headers.get(name)
        if value is not None and not right(value):
            raise _refusal(name, wanted, value)


def _are_plain(headers: Mapping[str, Any]) -> bool:
    """Whether they are right at one look, as nearly all are; what they are otherwise is for `check_headers` to say."""
    if not ("id" in headers and "task" in headers):
        return False
    for name, value in headers.items():
        rule = _RULES.get(name)
        if rule is not None:
            if (value is not None or name in _REQUIRED) and not rule(value):
                return False
        elif isinstance(value, (dict, list, tuple)) or name in _LOOKED_INTO:
            return False
    return not headers.get("stamps")


def deaths_can_be_counted(headers: Mapping[str, Any]) -> bool:
    """Whether the broker may be asked to dead-letter the message.

    RabbitMQ 3.10 believes an `x-death` that a sender made. From one that is a list of anything but tables, or
    whose count is no number, its dead-letter process dies, again and again, and then that of all its queues.
    """
    deaths = headers.get("x-death")
    lost = headers.get(UNREADABLE)
    if isinstance(lost, list) and "x-death" in lost:
        return False
    return not isinstance(deaths, list) or all(
        isinstance(death, dict) and _is_whole(death.get("count", 0)) for death in deaths
    )


def moment(text: str) -> datetime:
    """A header's time, aware; a naive one is UTC, as Celery sends it.

    Raises:
        ValueError: when it is none, or none between the years 1 and 9999 of UTC.
    """
    found = datetime.fromisoformat(text)
    if found.tzinfo is UTC:
        return found
    try:
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is outside of time") from error


def is_name(value: Any) -> bool:
    """Whether it can be an id or a name: text of any script, without control characters and lone surrogates."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and is_plain(value)


def is_plain(text: str) -> bool:
    """Whether a text has neither control characters nor lone surrogates."""
    return text.isprintable() or not any(unicodedata.category(one) in ("Cc", "Cs") for one in text)


def is_deeper(value: Any, limit: int) -> bool:
    """Whether lists and mappings are nested deeper than so many; the outermost counts as one."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            item
            for one in level
            if isinstance(one, (dict, list, tuple))
            for item in (one.values() if isinstance(one, dict) else one)
            if isinstance(item, (dict, list, tuple))
        ]
        if not level:
            return False
    return True


_HINT = "send the headers that Celery's protocol 2 describes"


def _refusal(name: str, wanted: str, value: Any) -> Undecodable:
    shown = repr(value)
    return Undecodable(f"the header {name} {wanted}, and it is {shown[:80]}", hint=_HINT)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and 0 <= value <= _MOST_RETRIES


def _is_moment(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(moment(value))
    except ValueError:
        return False


def _is_limit(value: Any) -> bool:
    return value is None or (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value <= _LONGEST_LIMIT
    )


def _are_limits(value: Any) -> bool:
    return value == [None, None] or (
        isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_limit, value))
    )


def _are_names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(is_name, value))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


_Rule = tuple[Callable[[Any], bool], str]
_NAME: _Rule = (
    is_name,
    f"must be a text of 1 to {LONGEST_NAME} characters, none of them a control character",
)
_MOMENT: _Rule = (_is_moment, "must be a time as ISO 8601")
_REQUIRED: dict[str, _Rule] = {"id": _NAME, "task": _NAME}
_OPTIONAL: dict[str, _Rule] = {
    "root_id": _NAME,
    "parent_id": _NAME,
    "group": _NAME,
    "shadow": _NAME,
    CORRELATION_ID: _NAME,
    "retries": (_is_count, "must be a number of retries"),
    "group_index": (_is_count, "must be a number"),
    "replaced_task_nesting": (_is_count, "must be a number"),
    "eta": _MOMENT,
    "expires": _MOMENT,
    "timelimit": (_are_limits, "must be two numbers of seconds"),
    "ignore_result": (_is_flag, "must be true or false"),
    "stamped_headers": (_are_names, "must be a list of names"),
    "stamps": (_is_table, "must be a table"),
}
_RULES = {name: right for name, (right, _wanted) in (_REQUIRED | _OPTIONAL).items()}
_LOOKED_INTO = (UNREADABLE, "x-death")
