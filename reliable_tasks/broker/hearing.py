"""What the broker says on a connection that publishes: acks are read many at a time, all else is py-amqp's.

py-amqp reads a frame in three calls, sets the socket's timeout before and after, and makes an object of each.
"""

import math
import select
import ssl
import struct
from collections.abc import Callable
from typing import Any

ANSWER = Callable[[int, bool], None]
"""Takes a delivery tag, and whether it means all up to this one."""

_MOST = 64 * 1024
"""Bytes that are read at a time."""

_BEGIN = struct.Struct(">BHI")
_ACK = struct.Struct(">HHQB")
_AROUND = _BEGIN.size + 1
_END = 0xCE


class Ear:
    """Reads one connection, once its only channel is open; nobody else may read it from then on.

    Args:
        connection: py-amqp's.
        channel_id: the channel whose acks are counted.
        acked: is told each of them.
        deadline_seconds: the timeout that the socket has, for what is written.
    """

    def __init__(self, connection: Any, channel_id: int, acked: ANSWER, deadline_seconds: float) -> None:
        self._connection = connection
        self._acked = acked
        self._deadline_seconds = deadline_seconds
        self._socket = connection.sock
        self._receive = self._by_tls if isinstance(self._socket, ssl.SSLSocket) else self._plainly
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._ack = struct.pack(">BHIHH", 1, channel_id, _ACK.size, 60, 80)
        self._rest = b""

    def hear(self, seconds: float) -> bool:
        """Take in what is there, or comes within this time; whether there was anything.

        Raises:
            OSError, amqp.exceptions.AMQPError: when the broker has ended connection or channel.
        """
        found = self._receive(seconds)
        if found is None:
            return False
        if not found:
            raise ConnectionResetError("the broker has closed the connection")
        self._take_in(self._rest + found)
        return True

    def _take_in(self, data: bytes) -> None:
        """Whole frames; the beginning of another waits for its rest."""
        at, end = 0, len(data)
        self._rest = b""
        while end - at >= _AROUND:
            kind, channel_id, size = _BEGIN.unpack_from(data, at)
            following = at + _AROUND + size
            if following > end:
                break
            if data[following - 1] == _END and data.startswith(self._ack, at):
                _, _, tag, multiple = _ACK.unpack_from(data, at + _BEGIN.size)
                self._acked(tag, bool(multiple & 1))
            elif data[following - 1] == _END:
                self._connection.on_inbound_frame((kind, channel_id, data[at + _BEGIN.size : following - 1]))
            else:
                raise ConnectionError("the broker has sent what is no frame")
            at = following
        self._rest = data[at:]

    def _plainly(self, seconds: float) -> bytes | None:
        if not self._poll.poll(math.ceil(seconds * 1000)):
            return None
        return bytes(self._socket.recv(_MOST))

    def _by_tls(self, seconds: float) -> bytes | None:
        """What can be read may be no data yet, and data may be there already: only a try tells."""
        self._socket.settimeout(seconds)
        try:
            return bytes(self._socket.recv(_MOST))
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        finally:
            self._socket.settimeout(self._deadline_seconds)
