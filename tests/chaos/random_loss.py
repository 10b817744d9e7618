"""A fault of the random tier: packets between all programs and broker and database are lost."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.chaos.random_field import Entry, Field

PERCENT = 20
FORGOTTEN_SECONDS = 120
"""After which the kernel ends it by itself, should nobody do."""


def _packets_lost(field: Field) -> bool:
    moment = time.time()
    with _lossy(_places(field)) as table:
        field.hold(4.0, 8.0)
        worked = field.wait(lambda: field.begins(moment) > 0)
        lost = _lost(table)
    return worked and lost > 0


def _places(field: Field) -> list[tuple[str, int]]:
    """Where this round's brokers and its database listen: nobody else on this machine loses anything."""
    around = field.run.around
    urls = [urlsplit(url) for url in (*around.broker_url.split(";"), around.database_url)]
    return [(url.hostname, url.port) for url in urls if url.hostname and url.port]


@contextmanager
def _lossy(places: list[tuple[str, int]]) -> Iterator[str]:
    """Lose packets to and from these places; yields the name of the firewall's table."""
    table = f"reliable_tasks_loss_{os.getpid()}"
    elements = ", ".join(f"{host} . {port} timeout {FORGOTTEN_SECONDS}s" for host, port in places)
    drop = f"@places numgen random mod 100 < {PERCENT} counter drop"
    _nft(
        f"add table inet {table}",
        f"add set inet {table} places {{ type ipv4_addr . inet_service; flags timeout; elements = {{ {elements} }}; }}",
        f"add chain inet {table} loss {{ type filter hook input priority 0; }}",
        f"add rule inet {table} loss ip daddr . tcp dport {drop}",
        f"add rule inet {table} loss ip saddr . tcp sport {drop}",
    )
    try:
        yield table
    finally:
        _nft(f"delete table inet {table}")


def _lost(table: str) -> int:
    told = subprocess.run(["nft", "list", "table", "inet", table], capture_output=True, text=True, check=True)
    return sum(int(found) for found in re.findall(r"packets (\d+)", told.stdout))


def _nft(*rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input="\n".join(rules) + "\n", text=True, check=True)


LOSS = (
    Entry(
        "a fifth of all packets to broker and database is lost", ("F37",), _packets_lost, needs=("partition",)
    ),
)
