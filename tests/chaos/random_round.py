"""One round of the random tier: a deployment, its work, the faults that are planned for it, rest, and the verdict."""

import json
import random
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from sqlalchemy import text

from reliable_tasks.failpoints import MARKS_VARIABLE, VARIABLE
from tests.chaos.provenance import provenance
from tests.chaos.random_field import CONCURRENCY, PRODUCERS, SERVICES, THROUGH_PROXIES, WORKERS, Entry, Field
from tests.chaos.random_pace import Pace, happened
from tests.chaos.random_place import Place
from tests.chaos.random_schedule import CATALOGUE, Planned
from tests.chaos.running import APP, Run
from tests.chaos.wires import Wires, behind, in_front, wires
from tests.chaos.workload_plan import LEASE, SHARES, plan
from tests.programs import ROOT

LEASE_SECONDS = 1.0
RECEIPTED = 0.25
"""Share of the transfers that send another task."""

KINDS = {
    **SHARES, "repeated": 0.08, "poison": 0.01, "unfunded": 0.01, "closed": 0.01, "charge": 0.02,
    "charge_known": 0.01, "charge_blind": 0.005, "long": 0.005, "flaky": 0.01, "cancelled": 0.01, "crash": 0.0005,
    "price": 0.15,
}  # fmt: skip
"""Shares of what is not a plain transfer: less of what waits than in the small runs, since most work shall be work."""

ROW_OF_KIND = {
    "repeated": "F27", "reused": "F28", "poison": "F31", "crash": "F31", "unfunded": "F31", "flaky": "F31",
    "charge": "F35", "charge_known": "F35", "charge_blind": "F35",
}  # fmt: skip
"""Rows of the fault matrix that the senders do themselves."""

PARTS = 3
"""For each act: the first is sent when it begins, the others when it waits for something to happen, or is over."""

BEFORE_AN_ACT = 0.8
"""Share of what was sent so far that is done when an act begins: the rest is under way."""

ORACLE = ROOT / "var" / "chaos" / "oracle.jsonl"
"""The mutants' verdicts, when RELIABLE_TASKS_TEST_ORACLE has named this file to their test: for C13."""

SLOW_SECONDS = 60.0
SENT_SECONDS = 180.0
DRAIN_SECONDS = 180.0
COUNTED_SECONDS = 90
"""A node of a 4.3 cluster that led a queue and was cut off tells its old counts for a minute after it has come back."""

_SUCCEEDING = ("transfer", "repeated", "reused", "flaky", "long")
_REPLAY = ("-m", "reliable_tasks.cli.main", "dead-letters", "replay", "--yes", "-A", f"{APP}:app")


class Round:
    """Runs one round.

    Args:
        where: the services.
        folder: for logs, history and verdict.
    """

    def __init__(self, where: Place, planned: Planned, transfers: int, folder: Path) -> None:
        self._where, self._planned, self._transfers, self._folder = where, planned, transfers, folder
        self._stack = where.stack
        chosen = [entry for name in planned.acts for entry in CATALOGUE if entry.name == name]
        self._acts = [entry for entry in chosen if where.possible.issuperset(entry.needs)]
        self.skipped = [entry for entry in chosen if entry not in self._acts]
        self._faults: list[dict[str, Any]] = []

    def play(self) -> dict[str, Any]:
        """Everything; returns what is recorded of it."""
        begun = time.time()
        around = self._where.deployment(self._folder)
        sends = self._sends()
        with ExitStack() as until_the_end:
            address = None
            if any(entry.address for entry in self._acts):
                address = until_the_end.enter_context(in_front(around))
                around = behind(around, address)
            kinds = sorted({entry.wires for entry in self._acts} - {""})
            through = {kind: until_the_end.enter_context(wires(around, self._planned.seed)) for kind in kinds}
            run = until_the_end.enter_context(
                Run(around, sends, producers=len(PRODUCERS), **{LEASE: str(LEASE_SECONDS)})
            )
            pace = until_the_end.enter_context(Pace(run.engine))
            self._say_what_is_planned(run)
            self._start(run, through)
            where, starter = self._where, self._starter(run, through)
            field = Field(run, where.stack, through, where.disk, where.cluster, starter, address)
            with field.until_the_end:
                try:
                    self._work(field, pace)
                except Exception:
                    run.history.say("harness", error=traceback.format_exc())
                self._replay(run)
                self._all_fired(run)
            run.drain(SLOW_SECONDS, limit_seconds=2 * DRAIN_SECONDS)
            oracle = ("--oracle", str(ORACLE)) if ORACLE.exists() else ()
            patience = ("--broker-seconds", str(COUNTED_SECONDS)) if self._where.cluster else ()
            verdict = run.judge("--drain-seconds", str(DRAIN_SECONDS), *patience, *oracle)
            happened(self._faults, run, pace)
            return self._record(run, verdict, begun)

    def _sends(self) -> list[dict[str, Any]]:
        """The plan, its parts behind gates that the acts open, so that something is being sent whatever happens."""
        planned = self._planned
        seed = f"{planned.seed}-{planned.number}"
        sends = plan(seed, self._transfers, lease=LEASE_SECONDS, shares=KINDS, receipted=RECEIPTED)
        for number in range(len(self._acts) * PARTS):
            first = self._first(number, sends)
            for place in range(first, min(first + len(PRODUCERS), len(sends))):
                sends[place]["gate"] = _gate(number)
        return sends

    def _first(self, number: int, sends: list[dict[str, Any]]) -> int:
        """Where the part of the plan behind this gate begins."""
        return len(sends) * (number + 1) // (len(self._acts) * PARTS + 1)

    def _say_what_is_planned(self, run: Run) -> None:
        planned = self._planned
        run.history.say(
            "run", round=planned.number, transfers=self._transfers, **provenance(planned.seed, self._stack)
        )
        names = [*(entry.name for entry in self._acts), *(one.name for one in planned.armed)]
        for name in names:
            run.history.say("scheduled", fault=name)
        points = [{"program": one.program, "failpoint": str(one.point)} for one in planned.armed]
        schedule = {"seed": planned.seed, "round": planned.number, "acts": planned.acts, "failpoints": points}
        (run.folder / "schedule.json").write_text(json.dumps(schedule, indent=1))

    def _start(self, run: Run, through: dict[str, Wires]) -> None:
        for name in SERVICES:
            variables = self._variables(run, "services", name, through)
            run.start(name, ["reliable_tasks.cli.main", "services", "-A", f"{APP}:app"], **variables)
        start_worker = self._starter(run, through)
        for name in WORKERS:
            start_worker(name)
        for name in PRODUCERS:
            given = ["--name", name, "--plan", str(run.folder / f"{name}.plan"), "--per-second", "1000"]
            variables = self._variables(run, "producer", name, through)
            run.start(name, ["tests.chaos.workload_producer", *given], **variables)
        run.supervise()

    def _starter(self, run: Run, through: dict[str, Wires]) -> Any:
        def start(name: str, **more: str) -> None:
            variables = self._variables(run, "worker", name, through)
            run.start_worker(name, concurrency=CONCURRENCY, **variables, **more)

        return start

    def _variables(self, run: Run, kind: str, name: str, through: dict[str, Wires]) -> dict[str, str]:
        points = ",".join(str(one.point) for one in self._planned.armed if one.program == kind)
        marks = self._marks(run, kind)
        led = through[kind].environment if kind in through and name in THROUGH_PROXIES[kind] else {}
        return {**led, **({VARIABLE: points, MARKS_VARIABLE: str(marks)} if points else {})}

    @staticmethod
    def _marks(run: Run, kind: str) -> Path:
        marks = run.folder / f"marks-{kind}"
        marks.mkdir(exist_ok=True)
        return marks

    def _work(self, field: Field, pace: Pace) -> None:
        """The acts, each when so much is done that the next part of the work is due."""
        for number, entry in enumerate(self._acts):
            before = field.run.sends[: self._first(number * PARTS, field.run.sends)]
            due = {send["key"] for send in before if send["kind"] in _SUCCEEDING}
            pace.until_done(int(BEFORE_AN_ACT * len(due)), SLOW_SECONDS)
            gates = iter(range(number * PARTS, (number + 1) * PARTS))
            field.more = partial(self._open, field.run, gates)
            field.more()
            planned = self._planned
            field.chance = random.Random(f"{planned.seed} {planned.number} {entry.name}")
            self._act(field, entry)
            while field.more():
                pass
        field.wait(field.run.all_sent, SENT_SECONDS)

    @staticmethod
    def _open(run: Run, gates: Iterator[int]) -> bool:
        number = next(gates, None)
        if number is not None:
            run.history.say("gate", name=_gate(number))
        return number is not None

    def _act(self, field: Field, entry: Entry) -> None:
        begun = time.time()
        field.run.history.say("fault", fault=entry.name, phase="begins")
        try:
            fired, why = entry.act(field), ""
        except Exception:
            # the round is red without it: it has not fired
            fired, why = False, traceback.format_exc()
        healed = time.time()
        field.run.history.say("fired", fault=entry.name, inside=fired, **({"error": why} if why else {}))
        self._note(entry.name, entry.rows, begun, healed, fired)

    def _note(self, name: str, rows: Iterable[str], begun: float, healed: float, fired: bool) -> None:
        self._faults.append(
            {"name": name, "rows": list(rows), "begun": begun, "healed": healed, "fired": int(fired)}
        )

    def _replay(self, run: Run) -> None:
        """An operator replays what is dead, after its cause is gone; as often as the command fails, and once more."""
        points = [one for one in self._planned.armed if one.program == "operator"]
        run.open_accounts()
        with run.engine.connect() as connection:
            query = "SELECT id FROM reliable_tasks.dead_letters WHERE state = 'open' AND reason = 'permanent'"
            letters = [str(one) for one in connection.execute(text(query)).scalars()]
        variables = {**run.environment(), **self._variables(run, "operator", "", {})}
        # a few for each failpoint: the command that meets it may do no more
        for number in range(len(points)):
            self._replay_once(run, variables, letters[number * 3 : number * 3 + 3])
        for _ in range(3):
            if self._replay_once(run, variables, ["--reason", "permanent"]) == 0:
                break

    @staticmethod
    def _replay_once(run: Run, variables: dict[str, str], chosen: list[str]) -> int | None:
        if not chosen:
            return None
        try:
            done = run.around.python(*_REPLAY, *chosen, **variables)
        except TimeoutExpired:
            return None
        run.history.say("replay", returned=done.returncode, told=done.stderr[-500:])
        return done.returncode

    def _all_fired(self, run: Run) -> None:
        for one in self._planned.armed:
            mark = self._marks(run, one.program) / str(one.point)
            told = json.loads(mark.read_text() or "{}") if mark.exists() else {}
            at = float(told.get("at", time.time()))
            run.history.say("fired", fault=one.name, inside=mark.exists(), mark=told)
            self._note(one.name, (one.row,), at, at + (one.point.milliseconds or 0) / 1000, mark.exists())

    def _record(self, run: Run, verdict: dict[str, Any], begun: float) -> dict[str, Any]:
        kinds = [(send["kind"], send) for send in run.sends]
        drained = next(line for line in reversed(run.history.lines()) if line["op"] == "drained")
        told = provenance(self._planned.seed, self._stack)
        return {
            "at": begun,
            **told,
            "broker": self._where.broker,
            "round": self._planned.number,
            "transfers": self._transfers,
            "seconds": time.time() - begun,
            "drained": drained["seconds"],
            "red": verdict["red"],
            "broken": {name: found[:5] for name, found in verdict["broken"].items() if found},
            "counters": verdict["counters"],
            "faults": self._faults,
            "sent": {kind: sum(one == kind for one, _send in kinds) for kind in ROW_OF_KIND},
            "skipped": [entry.name for entry in self.skipped],
            "table": verdict["table"],
        }


def _gate(number: int) -> str:
    return f"part-{number}"
