"""Faults of the random tier that happen to the wires between our programs and broker or database."""

import time
from collections.abc import Callable, Iterator

from tests.chaos.faults import Direction, Effect, Fault
from tests.chaos.proxy import Proxy
from tests.chaos.random_field import THROUGH_PROXIES, Entry, Field

SIDES = ("broker", "database")
_KINDS = {"worker": "a worker", "services": "relay and collector", "producer": "a sender"}


def _proxy(field: Field, kind: str, side: str) -> Proxy:
    found = getattr(field.wires[kind], side)
    assert isinstance(found, Proxy)
    return found


def _now(kind: str, side: str, effect: Effect) -> Callable[[Field], bool]:
    """Done to all connections that there are, for some seconds."""

    def act(field: Field) -> bool:
        proxy = _proxy(field, kind, side)
        field.wait(proxy.connections)
        met = proxy.now(effect)
        if effect not in (Effect.RESET, Effect.CLOSE):
            field.hold(2.0, 4.0)
            proxy.heal()
        return met > 0

    return act


def _refused(kind: str, side: str) -> Callable[[Field], bool]:
    def act(field: Field) -> bool:
        proxy = _proxy(field, kind, side)
        before = proxy.refused()
        proxy.refuse()
        try:
            wanted = field.wait(lambda: proxy.refused() > before)
            field.hold(1.0, 3.0)
        finally:
            proxy.heal()
        return wanted

    return act


def _slow(kind: str) -> Callable[[Field], bool]:
    def act(field: Field) -> bool:
        proxies = [_proxy(field, kind, side) for side in SIDES]
        moment = time.time()
        for proxy in proxies:
            proxy.delay(0.02, 0.05)
        field.hold(4.0, 8.0)
        met = any(proxy.connections() for proxy in proxies)
        for proxy in proxies:
            proxy.heal()
        return met and field.wait(lambda: field.begins(moment) > 0)

    return act


def _at(
    kind: str, side: str, effect: Effect, unit: str, direction: Direction, *, after: bool
) -> Callable[[Field], bool]:
    """Done when the k-th such frame or message passes."""

    def act(field: Field) -> bool:
        proxy = _proxy(field, kind, side)
        fault = proxy.when(Fault(effect, unit, direction, nth=field.chance.randint(1, 8), after=after))
        fired = field.wait(fault.fired.is_set)
        if effect not in (Effect.RESET, Effect.CLOSE):
            field.hold(2.0, 4.0)
        proxy.heal()
        return fired

    return act


def _within(kind: str, side: str) -> Callable[[Field], bool]:
    """Connections are made anew, and the next one is cut after so many bytes."""
    # a worker says little to the broker
    more = Direction.TO_CLIENT if (kind, side) == ("worker", "broker") else Direction.TO_SERVER

    def act(field: Field) -> bool:
        proxy = _proxy(field, kind, side)
        fault = proxy.when(Fault(Effect.RESET, direction=more, nth=field.chance.randint(100, 4000)))
        proxy.now(Effect.RESET)
        return field.wait(fault.fired.is_set)

    return act


def _cuts() -> Iterator[Entry]:
    up, down = Direction.TO_SERVER, Direction.TO_CLIENT
    frames = (
        ("producer", "broker", "a message, before its confirm", "basic.publish.end", up, True, ("F5",)),
        ("producer", "broker", "the confirm", "basic.ack", down, False, ("F5",)),
        ("producer", "database", "COMMIT, before its answer", "complete COMMIT", down, False, ("F2",)),
        ("services", "broker", "a message, before its confirm", "basic.publish.end", up, True, ("F5", "F3")),
        ("services", "broker", "the confirm", "basic.ack", down, False, ("F5", "F3")),
        (
            "services",
            "database",
            "the relay's delete, before its answer",
            "complete DELETE",
            down,
            False,
            ("F3",),
        ),
        ("worker", "database", "COMMIT", "COMMIT", up, False, ("F18",)),
        ("worker", "database", "COMMIT, before its answer", "complete COMMIT", down, False, ("F18",)),
        ("worker", "broker", "an ack", "basic.ack", up, False, ("F17",)),
    )
    for kind, side, what, unit, direction, after, rows in frames:
        act = _at(kind, side, Effect.RESET, unit, direction, after=after)
        yield Entry(f"{_KINDS[kind]}: reset at {what}", rows, act, wires=kind)
    deaf = _at("worker", "broker", Effect.DEAF_SERVER, "basic.ack", up, after=False)
    yield Entry("a worker: acks lost on a half-open connection", ("F17",), deaf, wires="worker")
    late = _at("producer", "broker", Effect.STALL_TO_SERVER, "basic.publish", up, after=False)
    yield Entry("a sender: its message arrives after it has given up", ("F6",), late, wires="producer")
    silent = _at("producer", "broker", Effect.DEAF_CLIENT, "basic.publish.end", up, after=True)
    yield Entry("a sender: confirms lost on a half-open connection", ("F6",), silent, wires="producer")


def _all() -> Iterator[Entry]:
    yield from _cuts()
    for kind in THROUGH_PROXIES:
        who = _KINDS[kind]
        yield Entry(f"{who}: slow wires, with jitter", ("F37",), _slow(kind), wires=kind)
        for side in SIDES:
            rows = ("F17",) if side == "broker" else ("F18",)
            effects = {
                "everything stalls": Effect.STALL,
                "the answers stall": Effect.STALL_TO_CLIENT,
                "half open, deaf": Effect.DEAF_CLIENT,
                "half open, unheard": Effect.DEAF_SERVER,
                "reset": Effect.RESET,
            }
            for what, effect in effects.items():
                yield Entry(f"{who} and the {side}: {what}", rows, _now(kind, side, effect), wires=kind)
            yield Entry(f"{who} and the {side}: refused", rows, _refused(kind, side), wires=kind)
            yield Entry(f"{who} and the {side}: cut within a message", rows, _within(kind, side), wires=kind)


WIRES = tuple(_all())
