"""The declared shape against the live broker: compare, plan, apply.

Nothing that is not declared is ever touched, and nothing that is there is ever changed: RabbitMQ cannot
change a queue or an exchange in place, and deleting one to make it anew would lose what is in it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from reliable_tasks.broker.declarer import declare
from reliable_tasks.broker.management import Depth, Management
from reliable_tasks.errors import ReliableTasksError, TopologyDrift
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.physical import Binding, Item, Physical, PhysicalExchange, PhysicalQueue
from reliable_tasks.model.policies import DELIVERY_LIMIT, WITHOUT_END, explained, in_effect
from reliable_tasks.model.shape import Topology

Action = Literal["create", "same", "differs", "extra"]
Kind = Literal["exchange", "queue", "binding"]
Record = Callable[[dict[str, Any]], None]

ABSENT = "(absent)"
_FORMER = (
    "a priority level from before the broker's upgrade, emptied by the workers; delete it when it is empty"
)


@dataclass(frozen=True)
class Difference:
    """One property that is not as declared."""

    name: str
    declared: Any
    live: Any

    def __str__(self) -> str:
        return f"{self.name} is {self.live}, declared {self.declared}"


@dataclass(frozen=True)
class Step:
    """What becomes of one exchange, queue or binding."""

    action: Action
    kind: Kind
    name: str
    item: Item
    differences: tuple[Difference, ...] = ()
    messages: int | None = None
    note: str = "not declared, left alone"

    @property
    def curable_by_policy(self) -> bool:
        """Whether a policy makes it as declared, since nothing but the end of its delivery limit is missing."""
        return [(each.name, each.declared, each.live) for each in self.differences] == [
            (DELIVERY_LIMIT, WITHOUT_END, ABSENT)
        ]

    @property
    def detail(self) -> str:
        """The reason in words."""
        match self.action:
            case "differs":
                what = "; ".join(str(difference) for difference in self.differences)
                if self.curable_by_policy:
                    return f"{what}: declared before the broker's upgrade; a policy changes it in place"
                return f"{what}: cannot be changed in place, needs a migration (not available yet)"
            case "extra":
                held = f", holds {self.messages} messages" if self.messages else ""
                return f"{self.note}{held}"
            case _:
                return ""


@dataclass(frozen=True)
class Plan:
    """All steps, in the order in which `apply` takes those that create."""

    steps: tuple[Step, ...]
    vhost: str = "/"
    broker_version: str = ""
    digest: str = ""

    def having(self, action: Action) -> tuple[Step, ...]:
        """The steps with this action."""
        return tuple(step for step in self.steps if step.action == action)

    @property
    def differs(self) -> bool:
        """Whether the broker is not as declared; what is there beyond that does not count."""
        return any(step.action in ("create", "differs") for step in self.steps)

    @property
    def hint(self) -> str:
        """What to do about queues from before the broker's upgrade; empty when there are none."""
        names = [step.name for step in self.steps if step.curable_by_policy]
        return explained(self.vhost, names) if names else ""

    def summary(self) -> str:
        """The plan in one line."""
        counts = {action: len(self.having(action)) for action in ("create", "differs", "same", "extra")}
        return (
            f"{counts['create']} to create, {counts['differs']} that cannot be changed, "
            f"{counts['same']} as declared, {counts['extra']} not declared"
        )


def diff(declared: Physical, live: Physical, depths: Mapping[str, Depth] | None = None) -> Plan:
    """Compare two shapes of one vhost."""
    exchanges = {exchange.name: exchange for exchange in live.exchanges}
    queues = {queue.name: queue for queue in live.queues}
    bindings = {_identity(binding) for binding in live.bindings}
    steps = []
    for item in declared.in_safe_order():
        match item:
            case PhysicalExchange():
                steps.append(_compared("exchange", item, exchanges.pop(item.name, None)))
            case PhysicalQueue():
                steps.append(_compared("queue", item, queues.pop(item.name, None)))
            case Binding():
                there = _identity(item) in bindings
                steps.append(Step("same" if there else "create", "binding", item.title, item))
    wanted = {_identity(binding) for binding in declared.bindings}
    extra: list[Step] = [Step("extra", "exchange", name, item) for name, item in sorted(exchanges.items())]
    for name, queue in sorted(queues.items()):
        depth = (depths or {}).get(name)
        extra.append(Step("extra", "queue", name, queue, messages=depth.messages if depth else None))
    for binding in sorted(live.bindings, key=lambda binding: binding.title):
        if _identity(binding) not in wanted:
            extra.append(Step("extra", "binding", binding.title, binding))
    return Plan((*steps, *extra))


def plan(topology: Topology, management: Management) -> Plan:
    """Compare the declared topology with the live broker.

    Raises:
        BrokerUnreachable: when the management API is not there or does not let us in.
    """
    version = management.version()
    capabilities = Capabilities.for_version(version)
    former = topology.former_queue_names(capabilities)
    steps = diff(topology.physical(capabilities), management.live(), management.depths()).steps
    steps = tuple(replace(step, note=_FORMER) if step.name in former else step for step in steps)
    return Plan(steps, management.vhost, version, topology.digest())


def apply(plan: Plan, broker_url: str, *, record: Record) -> tuple[str, ...]:
    """Create what the plan says is missing; returns the names of what was declared.

    `record` is given one row before the first act and one after the last, so that no act goes unrecorded:
    when the first cannot be written, nothing is done.

    Raises:
        TopologyDrift: when something differs that cannot be changed; then nothing at all is done.
        OperationRefused: when the broker's user may not configure.
    """
    refuse_differences(plan)
    missing = plan.having("create")
    if not missing:
        return ()
    done: list[str] = []
    record(_row(plan, "started", [f"{step.kind} {step.name}" for step in missing]))
    try:
        declare(broker_url, [step.item for step in missing], declared=lambda item: done.append(item.title))
    except ReliableTasksError as error:
        record({**_row(plan, "failed", done), "error": f"{error.code}: {error.message}"})
        raise
    record(_row(plan, "done", done))
    return tuple(done)


def refuse_differences(plan: Plan) -> None:
    """Stop when something is there with other properties.

    Raises:
        TopologyDrift: naming each of them.
    """
    different = plan.having("differs")
    if different:
        lines = [f"{step.kind} {step.name}: {'; '.join(map(str, step.differences))}" for step in different]
        raise TopologyDrift(
            f"{len(different)} declared differently on the broker; nothing was changed: " + " | ".join(lines),
            hint=plan.hint
            if all(step.curable_by_policy for step in different)
            else "declare what is there; or, once the queue is empty and no worker runs, delete it "
            "(rabbitmqctl delete_queue NAME --if-empty) and apply again; migrations are not available yet",
        )


def _compared(kind: Kind, declared: PhysicalExchange | PhysicalQueue, live: Item | None) -> Step:
    if live is None:
        return Step("create", kind, declared.name, declared)
    differences = tuple(_differences(declared, live))
    return Step("differs" if differences else "same", kind, declared.name, declared, differences)


def _differences(declared: PhysicalExchange | PhysicalQueue, live: Item) -> list[Difference]:
    found = []
    for name in ("type", "durable", "auto_delete", "exclusive", "internal"):
        if hasattr(declared, name) and getattr(declared, name) != getattr(live, name):
            found.append(Difference(name, getattr(declared, name), getattr(live, name)))
    for name in sorted({*declared.arguments, *live.arguments}):
        wanted, there = declared.arguments.get(name, ABSENT), _live_value(live, name)
        if wanted != there:
            found.append(Difference(name, wanted, there))
    return found


def _live_value(live: Item, name: str) -> Any:
    found = in_effect(name, live) if isinstance(live, PhysicalQueue) else live.arguments.get(name)
    return ABSENT if found is None else found


def _identity(binding: Binding) -> tuple[str, str, str, bool, str]:
    arguments = repr(sorted(binding.arguments.items()))
    return binding.exchange, binding.queue, binding.routing_key, binding.to_exchange, arguments


def _row(plan: Plan, outcome: str, names: list[str]) -> dict[str, Any]:
    return {
        "action": "topology.apply",
        "outcome": outcome,
        "vhost": plan.vhost,
        "broker_version": plan.broker_version,
        "topology_digest": plan.digest,
        "items": names,
    }
