"""Free loopback ports, outside the range from which the kernel takes clients' ports.

A port of that range can be taken by any outgoing connection while a broker restarts; worse, a client that
reconnects to a closed port of that range may connect to itself.
"""

import random
import socket
from collections.abc import Iterable
from pathlib import Path

from reliable_tasks.errors import ServiceStartError

LOOPBACK = "127.0.0.1"
_LOWEST = 15_000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES = 2_000


def free_ports(count: int) -> list[int]:
    """Different ports that nothing listens on now.

    Raises:
        ServiceStartError: when there are not enough of them.
    """
    found: list[int] = []
    candidates = _candidates()
    for port in random.SystemRandom().sample(candidates, min(_TRIES, len(candidates))):
        if is_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise ServiceStartError(
        f"there are no {count} free ports on {LOOPBACK}", hint="end programs that listen on many ports"
    )


def all_free(ports: Iterable[int]) -> bool:
    """Whether every one of these ports can be listened on."""
    return all(is_free(port) for port in ports)


def is_free(port: int) -> bool:
    """Whether the port can be listened on; connections of an earlier listener that linger do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def accepts(port: int) -> bool:
    """Whether something listens on the port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def _candidates() -> range:
    try:
        first, last = map(int, _EPHEMERAL_RANGE.read_text().split())
    except (OSError, ValueError):
        first, last = 32_768, 60_999
    if first - _LOWEST > _TRIES:
        return range(_LOWEST, first)
    return range(max(last + 1, _LOWEST), 65_536) if last < 65_000 else range(_LOWEST, 65_536)
