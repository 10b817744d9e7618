"""An exception made again from a result's row, which chooses among classes that are there, and runs no code of theirs.

Whoever may write a row would otherwise choose what its reader imports and calls (CVE-2021-23727). So nothing is
imported, no attribute is computed, and a constructor written in Python is called only for a class that is ours or
Celery's, or that a task's `throws` names; any other gets its arguments, and not what its constructor makes of them.
"""

import builtins
import re
import sys
from collections.abc import Collection
from types import ModuleType
from typing import Any

from celery.exceptions import TaskRevokedError

from reliable_tasks.errors import ExecutionError
from reliable_tasks.model.states import ENDS, TaskState

_TRUSTED = ("reliable_tasks", "celery", "kombu", "billiard")
_NAME = re.compile(r"[\w.<>]{1,200}")
_STAND_IN = "UnknownError"


def exception_of(told: Any, declared: Collection[type] = ()) -> Exception:
    """The exception that a row tells of: exc_type, exc_module, exc_message.

    Args:
        declared: classes that may be called as they are, since the application names them.
    """
    values = told if isinstance(told, dict) else {"exc_message": str(told)}
    name, module = values.get("exc_type"), values.get("exc_module")
    given = values.get("exc_message", ())
    arguments = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    found = _loaded(module, name)
    try:
        if found is not None:
            return _made(found, arguments, declared)
    except Exception:
        pass
    return _stand_in(name, module)(*arguments)


def exception_of_end(row: dict[str, Any]) -> Exception | None:
    """What stands for the exception of a task that ended without one, since nothing ran it; None of any other.

    Celery's clients raise what a failed task left, and cannot raise nothing.
    """
    state, why = row["state"], f"{row['state']}, {row['reason']}" if row["reason"] else row["state"]
    if state in (TaskState.CANCELLED, TaskState.EXPIRED):
        revoked: Exception = TaskRevokedError(why)
        return revoked
    if state not in ENDS - {TaskState.SUCCEEDED, TaskState.DUPLICATE}:
        return None
    return ExecutionError(
        f"task {row['task_id']} has not run to an end: it is {why}",
        hint=f"`reliable-tasks results timeline {row['task_id']}` tells more",
    )


def _loaded(module: Any, name: Any) -> type[Exception] | None:
    """A class of a module that is loaded; `getattr` could run code, or import what a lazy module stands for."""
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for part in name.split(".") if isinstance(name, str) else ():
        found = vars(found).get(part) if isinstance(found, (ModuleType, type)) else None
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _made(cls: type[Exception], arguments: tuple[Any, ...], declared: Collection[type]) -> Exception:
    if cls in declared or cls.__module__.partition(".")[0] in _TRUSTED or _has_no_code(cls):
        return cls(*arguments)
    builtin: Any = next(base for base in cls.__mro__ if base.__module__ == builtins.__name__)
    made: Exception = builtin.__new__(cls, *arguments)
    builtin.__init__(made, *arguments)
    return made


def _has_no_code(cls: type) -> bool:
    """Whether calling it runs nothing but Python's own constructors."""
    own = (base for base in cls.__mro__ if base.__module__ != builtins.__name__)
    return type(cls) is type and not any({"__init__", "__new__"} & vars(base).keys() for base in own)


def _stand_in(name: Any, module: Any) -> type[Exception]:
    """A class of that name, so that people see what it was."""
    shown = name if isinstance(name, str) and _NAME.fullmatch(name) else _STAND_IN
    place = module if isinstance(module, str) and _NAME.fullmatch(module) else __name__
    return type(shown, (Exception,), {"__module__": place})
