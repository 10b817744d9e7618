"""What the live broker says about the guarantees."""

import threading
import time
from collections.abc import Callable, Sequence

from reliable_tasks.broker.management import Management
from reliable_tasks.errors import ConfigurationError
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.physical import PhysicalQueue
from reliable_tasks.model.policies import deliveries_before_the_end, explained
from reliable_tasks.model.shape import Topology
from reliable_tasks.observe.checks import Check, judged, told_when_unreachable

APPLY = "reliable-tasks topology apply"
COUNTED_EVERY_SECONDS = 7.0
"""RabbitMQ's management counts every five seconds."""


def broker_checks(
    topology: Topology, management: Callable[[], Management], differences: Callable[[], Sequence[str]]
) -> list[Check]:
    """Version, shape and contents of the broker.

    Args:
        differences: what the topology plan would change, one line each.
    """
    found: list[Check] = []
    with told_when_unreachable(found, "broker", "G1 G2 G5"):
        api = management()
        version = api.version()
        try:
            capabilities = Capabilities.for_version(version)
        except ConfigurationError as error:
            return [judged("broker version", "G1 G5", False, error.message, error.hint)]
        found.append(_version(version, capabilities))
        found.append(_alarms(api))
        found.append(_same_shape(differences()))
        live = {queue.name: queue for queue in api.live().queues}
        work = topology.work_queue_names(capabilities)
        dead = topology.dead_letter_queues()
        found.append(_replicated([*work, *dead], live))
        found.append(_dead_lettering(work, live))
        found.append(_kept_for_ever(dead, live, capabilities, api.vhost))
        found.append(_drained(dead, api))
    return found


def _version(version: str, capabilities: Capabilities) -> Check:
    able = [
        "at-least-once dead lettering"
        if capabilities.at_least_once_dead_letters
        else "dead letters may be lost",
        "strict priorities" if capabilities.strict_priorities else "one queue per priority level",
        f"messages up to {capabilities.max_message_bytes // (1024 * 1024)} MiB",
    ]
    return judged(
        "broker version",
        "G1 G5",
        capabilities.at_least_once_dead_letters,
        f"RabbitMQ {version}: {', '.join(able)}",
        "use a broker that can",
    )


def _alarms(api: Management) -> Check:
    alarms = api.health()
    return judged(
        "broker alarms",
        "G1",
        not alarms,
        "; ".join(alarms) or "none",
        "the broker refuses publishers until memory and disk are free again",
    )


def _same_shape(differences: Sequence[str]) -> Check:
    shown = "; ".join(differences[:5]) + (
        f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
    )
    return judged(
        "topology",
        "G1 G2 G5",
        not differences,
        shown or "the broker is as declared",
        f"run `{APPLY}`; what cannot be changed in place is listed by `reliable-tasks topology plan`",
    )


def _replicated(names: Sequence[str], live: dict[str, PhysicalQueue]) -> Check:
    bad = [
        name
        for name in names
        if name not in live
        or not live[name].durable
        or live[name].exclusive
        or live[name].auto_delete
        or live[name].arguments.get("x-queue-type") != "quorum"
    ]
    return judged(
        "quorum queues",
        "G1",
        not bad,
        f"not a durable quorum queue, or missing: {', '.join(bad)}"
        if bad
        else f"{len(names)} durable quorum queues",
        f"run `{APPLY}`",
    )


def _dead_lettering(names: Sequence[str], live: dict[str, PhysicalQueue]) -> Check:
    wanted = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    bad = [
        name
        for name in names
        if name not in live
        or not live[name].arguments.get("x-dead-letter-exchange")
        or any(live[name].arguments.get(argument) != value for argument, value in wanted.items())
    ]
    return judged(
        "dead lettering",
        "G5",
        not bad,
        f"not at-least-once: {', '.join(bad)}" if bad else f"at-least-once on {len(names)} work queues",
        f"run `{APPLY}`",
    )


def _kept_for_ever(
    names: Sequence[str], live: dict[str, PhysicalQueue], capabilities: Capabilities, vhost: str
) -> Check:
    limits = {name: deliveries_before_the_end(live[name], capabilities) for name in names if name in live}
    bad = {name: limit for name, limit in limits.items() if limit is not None}
    shown = ", ".join(f"{name} after {limit}" for name, limit in bad.items())
    return judged(
        "dead-letter limits",
        "G5",
        not bad,
        f"a dead letter is given up when it was delivered too often: {shown}" if bad else "none",
        explained(vhost, bad),
    )


def _drained(names: Sequence[str], api: Management) -> Check:
    first = held = _held(names, api)
    never, deadline = threading.Event(), time.monotonic() + COUNTED_EVERY_SECONDS
    # the broker counts now and then: what it says may be drained already
    while held and sum(held.values()) >= sum(first.values()) and time.monotonic() < deadline:
        never.wait(0.5)
        held = _held(names, api)
    shown = ", ".join(f"{name} holds {count}" for name, count in held.items())
    if sum(held.values()) < sum(first.values()) or not held:
        evidence = f"being drained: {shown}" if held else "empty"
        return judged("dead-letter queues", "G5", True, evidence)
    return judged(
        "dead-letter queues",
        "G5",
        False,
        f"not drained: {shown}; they are kept, but not explained or replayable yet",
        "run `reliable-tasks services` with the collector; its log says what it cannot do",
    )


def _held(names: Sequence[str], api: Management) -> dict[str, int]:
    depths = api.depths()
    return {name: depths[name].messages for name in names if name in depths and depths[name].messages}
