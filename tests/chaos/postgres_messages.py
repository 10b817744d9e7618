"""Postgres's protocol as it passes a proxy: a stream of bytes cut into messages, each with a name."""

from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.amqp_frames import Unit

_ENCRYPTION_REQUESTS = {80877103: "ssl request", 80877104: "gss request"}
_CLIENT = {"Q": "query", "P": "parse", "B": "bind", "E": "execute", "S": "sync", "p": "password", "X": "bye"}
_SERVER = {"C": "complete", "Z": "ready", "E": "error", "D": "row", "T": "columns", "R": "authentication"}


class Sender(StrEnum):
    """Who sends in a direction: the letters mean different things."""

    CLIENT = "client"
    SERVER = "server"


@dataclass
class PostgresMessages:
    """One direction of one unencrypted connection.

    A simple query is called by its first word (`COMMIT`, `SELECT`, ...), the server's answer to it
    `complete COMMIT`; other messages by what they are.
    """

    sender: Sender
    _buffer: bytes = b""
    _started: bool = False

    def feed(self, data: bytes) -> list[Unit]:
        """The messages that these bytes complete."""
        self._buffer += data
        units = []
        while (size := self._size()) is not None and len(self._buffer) >= size:
            message, self._buffer = self._buffer[:size], self._buffer[size:]
            units.append(Unit(self._name(message), message))
        return units

    def _size(self) -> int | None:
        if self.sender is Sender.SERVER and not self._started and self._buffer[:1] in (b"N", b"S"):
            return 1  # the answer to a request for encryption has no length
        head = 1 if self._started or self.sender is Sender.SERVER else 0
        if len(self._buffer) < head + 4:
            return None
        return head + int.from_bytes(self._buffer[head : head + 4], "big")

    def _name(self, message: bytes) -> str:
        if not self._started:
            return self._first_name(message)
        letter = chr(message[0])
        if self.sender is Sender.CLIENT:
            return _first_word(message[5:]) if letter == "Q" else _CLIENT.get(letter, letter)
        name = _SERVER.get(letter, letter)
        return f"{name} {_first_word(message[5:])}" if letter == "C" else name

    def _first_name(self, message: bytes) -> str:
        if self.sender is Sender.SERVER:
            if len(message) == 1:
                return "encryption answer"
            self._started = True
            return self._name(message)
        code = int.from_bytes(message[4:8], "big")
        if code in _ENCRYPTION_REQUESTS:
            return _ENCRYPTION_REQUESTS[code]
        self._started = True
        return "startup"


def _first_word(text: bytes) -> str:
    words = text.rstrip(b"\0").split(None, 1)
    return words[0].decode(errors="replace").rstrip(";").upper() if words else ""
