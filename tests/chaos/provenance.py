"""What a run must say so that it can be repeated: its seed, the commit, the versions."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from typing import Any

from reliable_tasks.dev import Stack
from tests.programs import ROOT

SEED = int(os.environ.get("SEED") or "1")
"""Of everything that is random in the chaos tests."""

_PACKAGES = ("celery", "kombu", "amqp", "pika", "sqlalchemy", "psycopg2-binary")


def provenance(seed: int, stack: Stack) -> dict[str, Any]:
    """The fields of a history's first line."""
    services = {"rabbitmq": stack.rabbitmq_version, "postgres": stack.postgres_version}
    packages = {name: version(name) for name in _PACKAGES}
    versions = {"python": platform.python_version(), **services, **packages}
    return {"seed": seed, "commit": _commit(), "versions": versions}


@cache
def _commit() -> str:
    """The commit, with a plus when the files are not as committed; empty outside a clone."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    except OSError:
        return ""
    return told.stdout.strip()
