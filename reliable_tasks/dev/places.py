"""Where stacks live: one that people keep, and throw-away ones whose owner may have died."""

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from reliable_tasks.errors import ServiceStartError

STATE_DIR = "RELIABLE_TASKS_STATE_DIR"


def default_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The folder of the stack that `dev up` starts when none is named."""
    environ = os.environ if environ is None else environ
    if environ.get(STATE_DIR):
        return Path(environ[STATE_DIR])
    state_home = environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state_home).expanduser() / "reliable-tasks" / "dev"


def new_throwaway_folder() -> Path:
    """A fresh folder for a throw-away stack, where a later run finds it.

    Raises:
        ServiceStartError: when somebody else made the folder that holds them.
    """
    parent = _throwaways()
    # others must pass through so that root can lend Postgres another user; nothing can be listed
    parent.mkdir(mode=0o711, exist_ok=True)
    found = parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ServiceStartError(f"{parent} belongs to somebody else", hint="set TMPDIR to a folder of yours")
    folder = Path(tempfile.mkdtemp(prefix="stack-", dir=parent))
    folder.chmod(0o711)
    return folder


def throwaway_folders() -> Iterator[Path]:
    """The folders of all throw-away stacks of this user, dead or alive."""
    parent = _throwaways()
    if parent.is_dir() and parent.lstat().st_uid == os.geteuid():
        yield from parent.glob("stack-*")


def _throwaways() -> Path:
    return Path(tempfile.gettempdir()) / f"reliable-tasks-{os.geteuid()}"
