"""`celery worker` as many nodes of one process each, under a supervisor."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from celery import __main__ as celery_program
from celery import signals
from celery.bin.worker import worker as celery_worker
from celery.utils.nodenames import nodesplit

from reliable_tasks.errors import SettingError
from reliable_tasks.worker import prefetch
from reliable_tasks.worker.before_forks import import_once
from reliable_tasks.worker.supervisor import Supervisor

_REFUSED = {
    "pool": "a process executes its tasks itself; use `celery worker` for another pool",
    "concurrency": "--processes says how many",
    "autoscale": "start more workers, or use `celery worker`",
    "beat": "each process would send every scheduled task; run `celery beat` beside this worker",
    "detach": "whatever starts this worker can put it into the background",
    "pidfile": "the pid to signal is that of the program itself",
    "statedb": "processes cannot share one",
}
_OF_A_NODE = (
    "celery.bin.celery",
    "celery.apps.worker",
    "celery.concurrency.prefork",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "kombu.transport.pyamqp",
    "reliable_tasks.worker.consumer",
    "reliable_tasks.worker.worker_program",
)
_PREFETCH = 128
"""Messages that a node holds unless somebody has chosen, of queues whose tasks do not all share commits."""

_PR_SET_PDEATHSIG = 1


def run_many(app: Any, name: str, count: int, options: Sequence[str], log: logging.Logger) -> int:
    """Run so many nodes until a signal says to stop; returns the exit code.

    Args:
        app: the application, imported but not used yet: each node is a fork of this process.
        name: of the application, as -A has it.
        options: those of `celery worker`.

    Raises:
        SettingError: when an option means nothing for nodes.
    """
    context = celery_worker.make_context(
        "worker", list(options), resilient_parsing=True, auto_envvar_prefix="CELERY_WORKER"
    )

    def is_given(option: str) -> bool:
        return str(context.get_parameter_source(option).name) != "DEFAULT"

    for option, instead in _REFUSED.items():
        if is_given(option):
            raise SettingError(f"--{option} cannot be given beside --processes", hint=instead)
    own, host = nodesplit(context.params["hostname"])
    app.finalize()
    app.loader.import_default_modules()
    import_once(app, _OF_A_NODE)
    has_chosen_prefetch = (
        is_given("prefetch_multiplier") or "worker_prefetch_multiplier" in app.conf.without_defaults()
    )
    supervisor = os.getpid()

    def node(number: int, ready: Callable[[], None]) -> None:
        # when --uid and --gid are done with, which would take it back
        signals.celeryd_init.connect(lambda **_unused: _end_with(supervisor), weak=False)
        signals.worker_ready.connect(lambda **_unused: ready(), weak=False)
        own_options = ["-P", "solo", "-c", "1", "-n", f"{own}-{number}@{host}"]
        if not has_chosen_prefetch:
            prefetch.unchosen = _PREFETCH
            own_options += ["--prefetch-multiplier", str(_PREFETCH)]
        end = options.index("--") if "--" in options else len(options)
        words = (*options[:end], *own_options, *options[end:])
        sys.argv = [str(celery_program.__file__), "-A", name, "worker", *words]
        celery_program.main()

    return Supervisor(count, node, log).run()


def _end_with(supervisor: int) -> None:
    """Stop as by SIGTERM when that process, which is the parent, is there no more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:
        os.kill(os.getpid(), signal.SIGTERM)
