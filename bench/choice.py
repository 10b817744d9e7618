"""Which entries a quick and a full run have."""

import re
from collections.abc import Sequence

from bench.entries import BULK, CHORDS, Bulk, Chord, Entry, Raw, Whole
from bench.measuring import Sizes
from bench.raw import ONE_TRANSACTION, OUR_BYTES, PIPELINED, measures
from bench.system import System
from bench.systems import find, ours_missing, systems
from bench.systems.ours import Ours

QUICK_PEERS = ("celery-stock", "celery-noresult", "dramatiq", "celery-transfer")
QUICK_RAW = (ONE_TRANSACTION.format(2),)
BULK_TASKS = 20_000
CORES = 2
"""All are run on as many; other numbers of workers are a growth curve."""


def entries_of(kind: str, sizes: Sizes, only: str = "") -> list[Entry]:
    """Those of a run: of ours and the peers by turns, so that both see the same machine.

    Args:
        only: names of configurations and raw limits, with commas.
    """
    if only:
        # a raw limit's name has commas, each with a blank behind it
        return [_named(name, sizes) for name in re.split(r",(?! )", only)]
    peers = [one for one in systems().values() if not isinstance(one, Ours)]
    ours = [one for one in systems().values() if isinstance(one, Ours) and _wanted(one, kind)]
    if kind == "quick":
        peers = [find(name) for name in QUICK_PEERS]
    raw = tuple(measures()) if kind == "full" else QUICK_RAW
    if kind == "quick":
        raw += (PIPELINED, OUR_BYTES)
    extra: list[Entry] = [
        *(Chord(name, sizes.chord) for name in CHORDS),
        *(Bulk(name, BULK_TASKS) for name in BULK),
    ]
    return [*(Whole(one, sizes) for one in _by_turns(peers, ours)), *map(Raw, raw), *extra]


def _wanted(one: Ours, kind: str) -> bool:
    """A quick run has small tasks in each topology that matters, the others in the one that is offered."""
    if one.topology.count != CORES:
        return False
    one_command = ours_missing.processes() is None
    offered = "processes" if one_command else "prefork"
    small = ("prefork", offered) if one_command else ("prefork", "solo", "processes")
    return kind == "full" or one.topology.kind in (small if one.task == "work_none" else (offered,))


def _named(name: str, sizes: Sizes) -> Entry:
    return Raw(name) if name in measures() else Whole(find(name), sizes)


def _by_turns(one: Sequence[System], other: Sequence[System]) -> list[System]:
    longer, shorter = sorted((one, other), key=len, reverse=True)
    mixed: list[System] = []
    for place, system in enumerate(longer):
        mixed.append(system)
        mixed += shorter[place : place + 1]
    return mixed
