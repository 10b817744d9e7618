"""A broker that takes back what a consumer holds too long, after two seconds instead of thirty minutes."""

from collections.abc import Iterator
from contextlib import contextmanager

from reliable_tasks.dev import Stack

PATIENCE_MS = 2_000
_LOOK_MS = 500


@contextmanager
def impatient(stack: Stack, patience_ms: int = PATIENCE_MS) -> Iterator[None]:
    """Channels that are opened inside are looked at twice a second, and end what they hold for so long."""
    before = {name: _get(stack, name) for name in ("consumer_timeout", "channel_tick_interval")}
    try:
        _set(stack, "channel_tick_interval", _LOOK_MS)
        _set(stack, "consumer_timeout", patience_ms)
        yield
    finally:
        for name, value in before.items():
            _set(stack, name, value)


def _get(stack: Stack, name: str) -> int:
    return int(stack.broker.rabbitmqctl("eval", f"{{ok, V}} = application:get_env(rabbit, {name}), V."))


def _set(stack: Stack, name: str, value: int) -> None:
    stack.broker.rabbitmqctl("eval", f"application:set_env(rabbit, {name}, {value}).")
