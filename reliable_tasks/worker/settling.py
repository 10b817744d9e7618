"""What becomes of deliveries about which the broker could not be told: their connection is given up."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR
from typing import Any

from celery.utils.log import get_logger

logger = get_logger("reliable_tasks.worker")


@contextmanager
def settling(channel: Any) -> Iterator[None]:
    """Settle deliveries of a channel inside; whatever goes wrong there ends its connection.

    The broker then delivers again what it was not told of. Whoever calls back from the pool only logs an exception: the
    deliveries would be held, and nobody would execute them, for as long as the worker lives.
    """
    try:
        yield
    except Exception as error:
        logger.critical(
            "The broker could not be told what became of its deliveries, and will repeat them: %r", error
        )
        socket = getattr(channel.connection, "sock", None)
        if socket is not None:
            with suppress(OSError):
                socket.shutdown(SHUT_RDWR)
