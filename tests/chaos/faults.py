"""What a proxy can do to a connection, and when."""

import threading
from dataclasses import dataclass, field
from enum import StrEnum


class Direction(StrEnum):
    """Which way bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


class Effect(StrEnum):
    """What becomes of the connection.

    reset            Both sides get a TCP reset at once.
    close            Both sides are told, in order, that there is nothing more.
    stall            Nothing passes, either way, until healed; then everything goes on.
    stall_to_client  As stall, for what the server says: it has heard everything.
    stall_to_server  As stall, for what the client says.
    deaf_client      What the server says is thrown away, and nobody is told: half open, until healed by a reset.
    deaf_server      What the client says is thrown away.
    """

    RESET = "reset"
    CLOSE = "close"
    STALL = "stall"
    STALL_TO_CLIENT = "stall_to_client"
    STALL_TO_SERVER = "stall_to_server"
    DEAF_CLIENT = "deaf_client"
    DEAF_SERVER = "deaf_server"

    @property
    def stalls(self) -> frozenset[Direction]:
        """The directions in which bytes wait."""
        return _STALLS.get(self, frozenset())

    @property
    def drops(self) -> frozenset[Direction]:
        """The directions in which bytes are lost."""
        return _DROPS.get(self, frozenset())


_STALLS = {
    Effect.STALL: frozenset(Direction),
    Effect.STALL_TO_CLIENT: frozenset({Direction.TO_CLIENT}),
    Effect.STALL_TO_SERVER: frozenset({Direction.TO_SERVER}),
}
_DROPS = {
    Effect.DEAF_CLIENT: frozenset({Direction.TO_CLIENT}),
    Effect.DEAF_SERVER: frozenset({Direction.TO_SERVER}),
}


@dataclass
class Fault:
    """One fault, done once.

    Args:
        effect: what is done to the connection on which it becomes due.
        unit: the frame or message that makes it due, by name; empty for `nth` bytes instead.
        direction: which way that goes.
        nth: the how manieth one, counted over all connections of the proxy; bytes are counted per connection.
        after: done when the unit has passed; else instead of letting it pass.
    """

    effect: Effect
    unit: str = ""
    direction: Direction = Direction.TO_SERVER
    nth: int = 1
    after: bool = False
    fired: threading.Event = field(default_factory=threading.Event, init=False, repr=False, compare=False)
    seen: int = field(default=0, init=False, repr=False, compare=False)

    def meets(self, direction: Direction, unit: str) -> bool:
        """Count a unit, and say whether this is the one."""
        if self.fired.is_set() or not self.unit or (self.direction, self.unit) != (direction, unit):
            return False
        self.seen += 1
        return self.seen == self.nth

    def bytes_left(self, direction: Direction, passed: int) -> int | None:
        """How many bytes may still pass on a connection; None when it is not about bytes, or done."""
        if self.unit or self.fired.is_set() or direction is not self.direction:
            return None
        return max(0, self.nth - passed)
