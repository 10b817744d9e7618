"""Exits 0 while this container has an established TCP connection to each of the given ports, else 1.

A health check that loads no application and disturbs no worker: the kernel knows.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ESTABLISHED = "01"
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def connected_ports(tables: Iterable[Path] = TABLES) -> Iterator[int]:
    """The remote ports of all established connections."""
    for table in tables:
        if table.exists():
            for line in table.read_text().splitlines()[1:]:
                _number, _local, remote, state = line.split()[:4]
                if state == ESTABLISHED:
                    yield int(remote.rpartition(":")[2], 16)


if __name__ == "__main__":
    missing = {int(port) for port in sys.argv[1:]} - set(connected_ports())
    sys.exit(f"no connection to port {', '.join(map(str, sorted(missing)))}" if missing else 0)
