"""An external task whose call may have happened cannot be cancelled as if it had not."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from reliable_tasks.model.states import TaskState
from reliable_tasks.operate.tasks import cancel
from reliable_tasks.store import claims, results
from reliable_tasks.store.engine import begin
from reliable_tasks.store.verdicts import ClaimRequest, Owned


@pytest.mark.parametrize(("may_have_acted", "outcome"), [(True, "refused"), (False, "cancelled")])
def test_only_a_task_without_doubt_is_cancelled(engine: Any, may_have_acted: bool, outcome: str) -> None:
    with begin(engine) as connection:
        request = ClaimRequest("tell", "k", b"f", "task", uuid4(), timedelta(seconds=60), may_act=True)
        owned = claims.take(connection, request)
        assert isinstance(owned, Owned)
        claims.finish(connection, request, owned.fence, "retry_wait", may_have_acted=may_have_acted)
        results.store(connection, "task", TaskState.RETRY_WAIT, {"name": "tell", "idempotency_key": "k"})
    (done,) = cancel(engine, ["task"], "ann")
    assert done.outcome == outcome
    with begin(engine) as connection:
        assert results.state_of(connection, "task") == ("retry_wait" if may_have_acted else "cancelled")
