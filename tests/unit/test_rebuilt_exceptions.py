"""Exceptions from rows: what is there is found, what runs is not run."""

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from celery.exceptions import TaskRevokedError

from reliable_tasks.errors import ExecutionError, KeyConflict
from reliable_tasks.worker.rebuilt import exception_of, exception_of_end

CALLED: list[Any] = []


class Acting(Exception):
    def __init__(self, *arguments: Any) -> None:
        CALLED.append(arguments)
        super().__init__(*arguments)

    class Inner(ValueError):
        pass


class Made(ValueError):
    def __new__(cls, *arguments: Any) -> "Made":
        CALLED.append(arguments)
        return super().__new__(cls, *arguments)


class Meta(type):
    def __call__(cls, *arguments: Any) -> Any:
        CALLED.append(arguments)
        return super().__call__(*arguments)


class ByMeta(Exception, metaclass=Meta):
    pass


class Lazy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        CALLED.append(name)
        return Acting


def told(module: Any, name: Any, *arguments: Any) -> dict[str, Any]:
    return {"exc_module": module, "exc_type": name, "exc_message": list(arguments)}


@pytest.fixture(autouse=True)
def nothing_is_called() -> Any:
    CALLED.clear()
    yield
    assert CALLED == []


@pytest.mark.parametrize(
    ("module", "name", "arguments", "wanted"),
    [
        ("builtins", "ValueError", ("no",), ValueError("no")),
        ("builtins", "FileNotFoundError", (2, "gone", "x"), FileNotFoundError(2, "gone", "x")),
        ("reliable_tasks.errors", "KeyConflict", ("m", "h"), KeyConflict("m", "h")),
        (__name__, "Acting.Inner", ("no",), Acting.Inner("no")),
        ("subprocess", "TimeoutExpired", (["ls"], 3), None),
    ],
)
def test_what_a_caller_catches_is_of_its_class(
    module: str, name: str, arguments: tuple[Any, ...], wanted: Exception | None
) -> None:
    found = exception_of(told(module, name, *arguments))
    if wanted is None:
        assert isinstance(found, subprocess.TimeoutExpired)
    else:
        assert (type(found), found.args, str(found)) == (type(wanted), wanted.args, str(wanted))


@pytest.mark.parametrize("cls", [Acting, Made, ByMeta])
def test_a_constructor_is_not_called_because_a_row_names_it(cls: type) -> None:
    found = exception_of(told(__name__, cls.__name__, "a", 1))
    assert (type(found), found.args) == (cls, ("a", 1))


def test_one_that_a_task_throws_is_called() -> None:
    found = exception_of(told(__name__, "Acting", "a"), {Acting})
    assert (type(found), CALLED) == (Acting, [("a",)])
    CALLED.clear()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("os", "path.join"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "exit"),
        ("builtins", "SystemExit"),
        ("builtins", "BaseException"),
        ("builtins", "ValueError.__class__"),
        ("builtins", "ValueError.__init__"),
        ("builtins", "ExceptionGroup"),
        ("builtins", "UnicodeDecodeError"),
        ("antigravity", "geohash"),
        ("lazily.loaded", "Acting"),
        ("", ""),
        (None, None),
        (["os"], {"system": 1}),
        ("os\x00", "sys\ud800tem"),
        ("x" * 100_000, "y" * 100_000),
    ],
)
def test_what_is_no_exception_is_only_told_of(
    module: Any, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lazily.loaded", Lazy("lazily.loaded"))
    before = set(sys.modules)
    found = exception_of(told(module, name, "touch /tmp/x"))
    assert found.args == ("touch /tmp/x",)
    assert type(found).__mro__[1:] == Exception.__mro__, "a class made for it"
    assert repr(found).encode()
    assert set(sys.modules) == before, "nothing was imported"


@pytest.mark.parametrize("row", [5, "text", [1], {"x": 1}, {"exc_message": {"a": 1}}])
def test_whatever_a_row_holds_is_an_exception(row: Any) -> None:
    assert type(exception_of(row)).__mro__[1] is Exception


def of_end(state: str, reason: str | None = None) -> Exception | None:
    return exception_of_end({"task_id": "t1", "state": state, "reason": reason})


def test_who_waits_for_what_nothing_ran_is_told_why() -> None:
    dead, cancelled = of_end("dead", "unknown_task"), of_end("cancelled")
    assert isinstance(dead, ExecutionError)
    assert dead.message == "task t1 has not run to an end: it is dead, unknown_task"
    assert isinstance(cancelled, TaskRevokedError)
    assert str(cancelled) == "cancelled"


@pytest.mark.parametrize("state", ["enqueued", "running", "retry_wait", "succeeded", "duplicate"])
def test_what_has_not_failed_has_no_exception(state: str) -> None:
    assert of_end(state) is None
