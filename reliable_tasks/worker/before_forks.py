"""What the processes of one program share: what each would import is in memory before they are forked."""

import gc
from collections.abc import Sequence
from importlib import import_module
from typing import Any

_EXECUTING = ("reliable_tasks.worker.backend", "reliable_tasks.worker.strategy")


def import_once(app: Any, modules: Sequence[str] = ()) -> None:
    """Have in memory, once for all forks, what is needed to execute tasks, and these modules."""
    for module in (*_EXECUTING, *modules):
        import_module(module)
    _ = app.runtime.engine  # its driver; it connects to nothing
    gc.collect()
    gc.freeze()  # or the first collection in a fork would copy everything
