"""What integration tests share: the vhost of one test, from both sides."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pika
import pika.exceptions
import pytest

from reliable_tasks.broker.management import Management
from reliable_tasks.dev import Stack


@pytest.fixture
def management(reliable_stack: Stack, fresh_vhost: str) -> Management:
    """The management API, for the vhost of this test."""
    return Management(reliable_stack.management_url, fresh_vhost)


@pytest.fixture
def channel(fresh_vhost: str) -> Iterator[Any]:
    """A channel with publisher confirms in the vhost of this test."""
    with closing(pika.BlockingConnection(pika.URLParameters(fresh_vhost))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
