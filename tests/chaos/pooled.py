"""Runs the cells of a test module a few at a time, while pytest waits for one after the other."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any, Generic, TypeVar

import pytest

from reliable_tasks.dev import Stack
from reliable_tasks.model.shape import Topology
from tests.chaos import quick_table
from tests.deployment import Deployment, new_deployment
from tests.integration.applied_topology import TOPOLOGY

AT_ONCE = 4
"""Enough to be busy while others wait for a lease, on two processors."""

Cell = TypeVar("Cell", bound=Hashable)
Verdict = dict[str, Any]


class Verdicts(Generic[Cell]):
    """The verdicts of cells that were begun."""

    def __init__(self, begun: dict[Cell, Future[Verdict]]) -> None:
        self._begun = begun

    def of(self, cell: Cell) -> Verdict:
        """Wait for a cell's verdict."""
        return self._begun[cell].result()

    def expect_green(self, cell: Cell) -> None:
        """Wait for a cell's verdict; fails when it is not green."""
        expect_green(str(cell), self.of(cell))


def expect_green(fault: str, verdict: Verdict) -> None:
    """Note the verdict; fails with the checker's table and the folder of logs and history."""
    quick_table.note(fault, verdict)
    assert not verdict["red"], f"{verdict['table']}\n{verdict['folder']}"


def chosen(request: pytest.FixtureRequest, name: str = "cell") -> list[Any]:
    """The parameters of this name of the tests of this module that were chosen to be run."""
    items: list[Any] = [
        item for item in request.session.items if getattr(item, "module", None) is request.module
    ]
    found = [getattr(item, "callspec", None) for item in items]
    return [spec.params[name] for spec in found if spec is not None and name in spec.params]


def begun(
    cells: Iterable[Cell],
    run: Callable[[Cell, Deployment], Verdict],
    stack: Stack,
    template: str,
    folders: pytest.TempPathFactory,
    shape: Callable[[Cell], Topology] = lambda _cell: TOPOLOGY,
) -> Iterator[Verdicts[Cell]]:
    """Begin all; each has a deployment of its own."""
    copying = Lock()  # of a database that is a template, one at a time

    def run_alone(cell: Cell) -> Verdict:
        with copying:
            around = new_deployment(stack, template, folders.mktemp("cell"), shape(cell))
        return run(cell, around)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield Verdicts({cell: pool.submit(run_alone, cell) for cell in cells})
        pool.shutdown(cancel_futures=True)


def verdicts_of(run: Callable[[Stack, Cell, Deployment], Verdict]) -> Any:
    """The fixture `verdicts` of a module: those of all its cells that were chosen."""

    @pytest.fixture(scope="module")
    def verdicts(
        request: pytest.FixtureRequest,
        reliable_stack: Stack,
        migrated_template: str,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[Verdicts[Cell]]:
        run_one = partial(run, reliable_stack)
        yield from begun(chosen(request), run_one, reliable_stack, migrated_template, tmp_path_factory)

    return verdicts
