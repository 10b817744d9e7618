"""The application of these tests, in a worker that is told to stop at once just when it writes an ack."""

import os
import signal
from pathlib import Path
from typing import Any

from amqp.transport import TCPTransport

from tests.integration.celery_behaviour.application import app

__all__ = ["app"]

MARK = "told-within-a-write"
_ACK = b"\0\x3c\0\x50"
_write = TCPTransport.write


def _write_and_be_told(self: Any, data: Any) -> None:
    mark = Path(os.environ["TESTS_PLACE"]) / MARK
    if _ACK in bytes(data) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGQUIT)
    _write(self, data)


TCPTransport.write = _write_and_be_told
