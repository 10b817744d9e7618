"""Whose account a service runs under: Postgres refuses root, so root gives it another one."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from reliable_tasks.errors import ServiceStartError


@dataclass(frozen=True)
class Account:
    """A user without rights that root lends to a service."""

    name: str
    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Hand a file or folder to this user."""
        os.chown(path, self.uid, self.gid)

    def can_reach(self, folder: Path) -> bool:
        """Whether this user may pass through the folder and everything above it."""
        return all(self._may_enter(part) for part in (folder, *folder.parents))

    def _may_enter(self, folder: Path) -> bool:
        found = folder.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid == self.gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)


def database_account() -> Account | None:
    """The user that Postgres runs as: None when we are not root and it runs as ourselves.

    Raises:
        ServiceStartError: when root has no other user to give it.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, found.pw_uid, found.pw_gid)
    raise ServiceStartError(
        "Postgres refuses to run as root and there is neither a user postgres nor a user nobody",
        hint="run as an ordinary user",
    )
