"""What happens in the rounds of a seed: a pure function of the seed, before anything runs."""

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from reliable_tasks.failpoints import WINDOWS, Action, Point
from tests.chaos.random_broker import BROKER
from tests.chaos.random_certificate import CERTIFICATE
from tests.chaos.random_cluster import CLUSTER, ONE_WAY
from tests.chaos.random_database import DATABASE
from tests.chaos.random_field import Entry
from tests.chaos.random_loss import LOSS
from tests.chaos.random_patience import PATIENCE
from tests.chaos.random_programs import PROGRAMS
from tests.chaos.random_standby import STANDBY
from tests.chaos.random_wires import WIRES

FIRST: tuple[Entry, ...] = (*PROGRAMS, *BROKER, *DATABASE, *CLUSTER, *WIRES)
FIRST_ROUNDS = 10
"""Of each seed: these faults, and the failpoints, are dealt over as many deployments."""

LATER: tuple[tuple[Entry, ...], ...] = (
    STANDBY,
    (*PATIENCE, *LOSS, *CERTIFICATE, *ONE_WAY),
)
"""Each of these is one more round of each seed.

What is added to FIRST changes every round of every seed: what was recorded could not be repeated. A new fault goes
into a new round here, or into the last one while no run has that.
"""

ROUNDS = FIRST_ROUNDS + len(LATER)
CATALOGUE: tuple[Entry, ...] = (*FIRST, *(entry for later in LATER for entry in later))
PASSED_BY = {
    "pub": ("producer",),
    "publish": ("producer", "services"),
    "relay": ("services",),
    "collector": ("services",),
    "worker": ("worker",),
    "ext": ("worker",),
    "replay": ("operator",),
}
"""Which kinds of program pass the windows of this family."""

ROWS = {
    "pub": "F1",
    "publish": "F5",
    "relay": "F3",
    "collector": "F32",
    "worker": "F14",
    "ext": "F14",
    "replay": "F33",
}
_PASSINGS = {"pub": 30, "publish": 15, "relay": 12, "collector": 4, "worker": 20, "ext": 3, "replay": 1}
"""In a round, each process passes the windows of this family at least as often."""

_MILLISECONDS = (300, 3000)


@dataclass(frozen=True)
class Armed:
    """A failpoint in one kind of program."""

    program: str
    point: Point

    @property
    def name(self) -> str:
        """As it stands in tables: without the passing."""
        return f"{self.point.window} {self.point.action} in {self.program}"

    @property
    def row(self) -> str:
        """Of the fault matrix."""
        return ROWS[self.point.window.partition(".")[0]]


@dataclass(frozen=True)
class Planned:
    """One round.

    Args:
        acts: names of faults of the catalogue, one after the other while the work goes on.
        armed: failpoints, which fire when their program comes there.
    """

    seed: int
    number: int
    acts: tuple[str, ...]
    armed: tuple[Armed, ...]


def schedule(seed: int) -> list[Planned]:
    """All rounds of a seed: each fault of the catalogue and each failpoint with each action once."""
    chance = random.Random(f"schedule {seed}")
    acts = [entry.name for entry in FIRST]
    cells = list(_cells())
    chance.shuffle(acts)
    chance.shuffle(cells)
    first = [
        Planned(
            seed,
            number,
            tuple(acts[number::FIRST_ROUNDS]),
            tuple(_arm(chance, cells[number::FIRST_ROUNDS])),
        )
        for number in range(FIRST_ROUNDS)
    ]
    return [*first, *(_later(seed, number) for number in range(FIRST_ROUNDS, ROUNDS))]


def _later(seed: int, number: int) -> Planned:
    """A round that is decided by its own number: those before it stay as they were."""
    chance = random.Random(f"schedule {seed} {number}")
    acts = [entry.name for entry in LATER[number - FIRST_ROUNDS]]
    chance.shuffle(acts)
    return Planned(seed, number, tuple(acts), ())


def _cells() -> Iterator[tuple[str, str, Action]]:
    for window in WINDOWS.values():
        for program in PASSED_BY[window.name.partition(".")[0]]:
            for action in Action:
                if action is not Action.RESET or window.reset:
                    yield program, window.name, action


def _arm(chance: random.Random, cells: list[tuple[str, str, Action]]) -> Iterator[Armed]:
    """Each in a passing of its own: of two in the same one, the second would come too late."""
    same: dict[tuple[str, str], list[Action]] = defaultdict(list)
    for program, window, action in cells:
        same[program, window].append(action)
    for (program, window), actions in same.items():
        top = max(_PASSINGS[window.partition(".")[0]], len(actions))
        for action, nth in zip(actions, sorted(chance.sample(range(1, top + 1), len(actions))), strict=True):
            takes = action in (Action.STOP, Action.SLEEP)
            milliseconds = chance.randint(*_MILLISECONDS) if takes else None
            yield Armed(program, Point(window, action, 1 if program == "operator" else nth, milliseconds))
