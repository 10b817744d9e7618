"""Fixtures of the acceptance tests."""

from collections.abc import Iterator

import pytest

from tests.acceptance.payments import Bank, bank
from tests.deployment import Deployment


@pytest.fixture
def running_bank(deployment: Deployment) -> Iterator[Bank]:
    """A fresh deployment; nothing runs in it yet."""
    with bank(deployment) as running:
        yield running
