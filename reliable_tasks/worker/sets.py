"""Groups and other sets of results: asked and waited for as sets, not one by one."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from celery import states
from celery.result import GroupResult, ResultSet

from reliable_tasks.model.states import celery_state
from reliable_tasks.store import results
from reliable_tasks.store.engine import begin
from reliable_tasks.worker.waiting import in_parts

MOST_REMEMBERED = 10_000
"""Of a larger group, the results are handed on and not kept in its members as well."""


def leaves_of(members: Iterable[Any]) -> Iterator[Any]:
    """The tasks' own results, also those of groups within groups."""
    for member in members:
        if isinstance(member, ResultSet):
            yield from leaves_of(member.results)
        else:
            yield member


class _AskedAsSet(ResultSet):
    """What a set says of its members, without a question for each. Eager results answer for themselves."""

    def join(self, timeout: float | None = None, **options: Any) -> Any:
        """As Celery's; a failure is raised when it is seen, not when all before it have ended."""
        if not self.supports_native_join:
            return super().join(timeout=timeout, **options)
        return self.join_native(timeout=timeout, **options) or []

    def ready(self) -> bool:
        return not self.waiting()

    def waiting(self) -> bool:
        if not self.supports_native_join:
            return bool(super().waiting())
        counted = self._counted()
        return any(state in states.UNREADY_STATES for state in counted) or self._unknown(counted)

    def successful(self) -> bool:
        if not self.supports_native_join:
            return bool(super().successful())
        counted = self._counted()
        return set(counted) <= {states.SUCCESS} and not self._unknown(counted)

    def failed(self) -> bool:
        if not self.supports_native_join:
            return bool(super().failed())
        return states.FAILURE in self._counted()

    def completed_count(self) -> int:
        if not self.supports_native_join or any(isinstance(one, ResultSet) for one in self.results):
            return int(super().completed_count())
        return self._counted()[states.SUCCESS]

    def _leaves(self) -> set[str]:
        return {leaf.id for leaf in leaves_of(self.results)}

    def _unknown(self, counted: Counter[str]) -> bool:
        return counted.total() < len(self._leaves())

    def _counted(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        for some in in_parts(self._leaves()):
            with begin(self.backend.engine) as connection:
                for (state, own), count in results.count_states(connection, some).items():
                    counted[celery_state(state, own)] += count
        return counted


class JoinedSet(_AskedAsSet):
    """Celery's ResultSet, asked as a set."""


class JoinedGroup(_AskedAsSet, GroupResult):
    """Celery's GroupResult, asked as a set."""
