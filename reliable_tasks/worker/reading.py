"""Reading the broker's socket until it is dry, and then handing over what came: so that it can go together."""

import errno
from collections.abc import Callable
from typing import Any

from kombu.exceptions import OperationalError

MOST = 512
"""Messages of one reading; the loop has other things to do, too."""

_NOTHING_NOW = (errno.EAGAIN, errno.EINTR)


def read_at_once(connection: Any, when_dry: Callable[[], None]) -> None:
    """Make the event loop read all that is there, up to MOST, where kombu reads one message a turn.

    Args:
        connection: kombu's, whose socket is not in a loop yet.
        when_dry: called after each reading.
    """

    def on_readable(wire: Any, loop: Any) -> None:
        if not wire.connected:
            raise OperationalError("the connection to the broker is gone")
        for _ in range(MOST):
            if not _one(wire):
                break
        else:
            loop.call_soon(on_readable, wire, loop)
        when_dry()

    connection.transport.on_readable = on_readable


def _one(wire: Any) -> bool:
    """Read one message, or whatever the broker says; False when there is nothing."""
    try:
        wire.drain_events(timeout=0)
    except TimeoutError:
        return False
    except OSError as error:
        if error.errno in _NOTHING_NOW:
            return False
        raise
    return True
