"""Other releases of RabbitMQ than the installed one, fetched once, and what a cluster of them needs."""

import os
import shutil
import subprocess
from pathlib import Path

from reliable_tasks.dev.binaries import find_rabbitmq
from tests.programs import ROOT

SUITES = {"3.10": "bookworm", "4.0": "trixie", "4.3": "sid"}
"""Which Debian has which series."""


def programs_of(series: str) -> Path:
    """The folder of this series' programs, fetched when they are not here.

    Raises:
        LookupError: no Debian has it, or it was not fetched.
    """
    installed = find_rabbitmq().server.parent
    if version_of(installed).startswith(f"{series}."):
        return installed
    if series not in SUITES:
        raise LookupError(f"no Debian is known that has it; there are {', '.join(SUITES)}")
    home = os.environ.get("RELIABLE_TASKS_BROKER_CACHE") or "~/.cache/reliable-tasks/brokers"
    fetch = [ROOT / "scripts" / "fetch-broker", SUITES[series], Path(home).expanduser() / series]
    fetched = subprocess.run(fetch, stdout=subprocess.PIPE, text=True, check=False)
    if fetched.returncode:
        raise LookupError("not fetched")
    programs = Path(fetched.stdout.strip())
    if not version_of(programs).startswith(f"{series}."):
        raise LookupError(f"Debian {SUITES[series]} has {version_of(programs)} by now")
    return programs


def version_of(programs: Path) -> str:
    """The release whose programs these are, by the name of the folder where they are at home."""
    fetched = programs.parent.glob("system/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin")
    for place in ((programs / "rabbitmq-env").resolve().parent, *fetched):
        name, _, version = place.parent.name.partition("-")
        if name == "rabbitmq_server" and version:
            return version
    raise LookupError(f"{programs} does not tell its version")


def install_firewall() -> None:
    """What cuts the nodes of a cluster off from each other; only root may, and others go without."""
    if os.geteuid() == 0 and shutil.which("nft") is None:
        subprocess.run(
            [ROOT / "scripts" / "install-packages", "nftables"], check=True, stdout=subprocess.DEVNULL
        )
