"""The task systems, one module each, with their application beside them.

A module has a list SYSTEMS of `bench.system.System`; a further peer is one more module, named in MODULES, and its
libraries in bench/requirements.txt. Modules import those when they are used, their applications at once.
"""

from functools import cache
from importlib import import_module

from bench.system import System

MODULES = (
    "ours",
    "stock_celery",
    "dramatiq_redis",
    "taskiq_postgres",
    "procrastinate_queue",
    "pgqueuer_queue",
    "dbos_workflows",
)


@cache
def systems() -> dict[str, System]:
    """All configurations by name. Importing them needs none of the peers' libraries."""
    modules = (import_module(f"bench.systems.{name}") for name in MODULES)
    return {system.name: system for module in modules for system in module.SYSTEMS}


def find(name: str) -> System:
    """The configuration of this name.

    Raises:
        KeyError: with the names that there are.
    """
    found = systems()
    if name not in found:
        raise KeyError(f"there is no configuration {name!r}; there are {', '.join(found)}")
    return found[name]
