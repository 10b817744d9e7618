"""Reading the broker's socket until it is dry, and then handing over what came: so that it can go together."""

import errno
from collections.abc import Callable
from socket import MSG_DONTWAIT
from ssl import SSLSocket
from typing import Any

from kombu.exceptions import OperationalError

from reliable_tasks.broker.deliveries import Delivered, Unusual, read_delivery

MOST = 512
"""Times that the socket or the library is asked in one reading; the loop has other things to do, too."""

_AT_ONCE = 1 << 17
_FRAMES = 3
_NOTHING_NOW = (errno.EAGAIN, errno.EINTR)

Take = Callable[[Any, Delivered], bool]


def read_at_once(connection: Any, hub: Any, take: Take, when_dry: Callable[[], None]) -> None:
    """Make the event loop read all that is there, up to MOST, where kombu reads one message a turn.

    Args:
        connection: kombu's, whose socket is in the loop.
        hub: the loop.
        take: asked with py-amqp's connection and a usual delivery, which the library then never sees; False leaves
            it to the library.
        when_dry: called after each reading.
    """

    def on_readable(wire: Any, loop: Any) -> None:
        if not wire.connected:
            raise OperationalError("the connection to the broker is gone")
        for _ in range(MOST):
            if not _some(wire, take):
                break
        else:
            loop.call_soon(on_readable, wire, loop)
        when_dry()

    hub.add_reader(connection.connection.sock, on_readable, connection.connection, hub)


def _some(wire: Any, take: Take) -> bool:
    """Read some of what there is; False when there is nothing.

    What is not read to its end stays where the library keeps such bytes: it may be the next one to read.
    """
    transport = wire.transport
    if isinstance(transport.sock, SSLSocket):
        return _by_library(wire)  # the bytes of the socket are not those of the frames
    try:
        came = transport.sock.recv(_AT_ONCE, MSG_DONTWAIT)
    except OSError as error:
        if error.errno in _NOTHING_NOW:
            return False
        raise
    if not came:
        return _by_library(wire)  # the end of the connection: the library says so
    transport._read_buffer += came
    while _taken(wire, transport, take):
        if not _by_library(wire):
            break
    return True


def _taken(wire: Any, transport: Any, take: Take) -> bool:
    """Hand over what can be taken; whether what follows is for the library."""
    data, at = transport._read_buffer, 0
    try:
        while True:
            delivery = read_delivery(data, at)
            if delivery is None:
                return False
            if not take(wire, delivery):
                return True
            at = delivery.end
            wire.bytes_recv += _FRAMES  # the broker lives, as heartbeats are to know
    except Unusual:
        return True
    finally:
        transport._read_buffer = data[at:]


def _by_library(wire: Any) -> bool:
    """Let the library read one message, or whatever the broker says; False when there is nothing."""
    try:
        wire.drain_events(timeout=0)
    except TimeoutError:
        return False
    except OSError as error:
        if error.errno in _NOTHING_NOW:
            return False
        raise
    return True
