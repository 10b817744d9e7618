"""Finds the deployment's topology by its name, so that the engine never imports a deployment."""

import os
import sys
from importlib import import_module

from reliable_tasks.errors import ReliableTasksError, SettingError
from reliable_tasks.model.shape import Topology

_HINT = "name it as module:ATTRIBUTE with --topology or in RELIABLE_TASKS_TOPOLOGY"


def load_topology(name: str) -> Topology:
    """The topology that `module:ATTRIBUTE` names, with the working directory on the path.

    Raises:
        SettingError: when there is no such module or attribute, its import fails, or it is no topology.
        ShapeError: when the deployment declares a mix that is refused.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module_name.split("."), attribute]):
        raise SettingError(f"{name!r} does not name a topology", hint=_HINT)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = import_module(module_name)
    except ReliableTasksError:
        raise
    except Exception as error:
        raise _cannot_import(name, module_name, error) from error
    if not hasattr(module, attribute):
        raise SettingError(f"the module {module_name} has no attribute {attribute}", hint=_HINT)
    found = getattr(module, attribute)
    if not isinstance(found, Topology):
        raise SettingError(f"{name} is a value of type {type(found).__name__}, not a Topology", hint=_HINT)
    return found


def _cannot_import(name: str, module_name: str, error: Exception) -> SettingError:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and f"{module_name}.".startswith(f"{missing}."):
        return SettingError(
            f"the topology {name} cannot be loaded: there is no module {missing} "
            f"in {os.getcwd()} or on the path",
            hint=f"start in the folder that holds it, or {_HINT}",
        )
    return SettingError(
        f"the topology {name} cannot be loaded: {type(error).__name__}: {str(error).partition(chr(10))[0]}",
        hint=f"import {module_name} in Python to see where",
    )
