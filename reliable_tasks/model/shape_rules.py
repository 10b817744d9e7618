"""What must hold between the parts of a shape; each rule refuses a mix that would lose or repeat messages."""

from collections import Counter
from collections.abc import Iterable, Sequence

from reliable_tasks.errors import ShapeError
from reliable_tasks.model.capabilities import TABLE
from reliable_tasks.model.shape_parts import Exchange, Queue


def check_shape(exchanges: Sequence[Exchange], queues: Sequence[Queue], default_queue: str) -> None:
    """Apply every rule.

    Raises:
        ShapeError: at the first that does not hold.
    """
    _check_kinds(exchanges, queues)
    _check_names(exchanges, queues)
    by_name = {exchange.name: exchange for exchange in exchanges}
    _check_known(by_name, exchanges, queues)
    _check_default(queues, default_queue)
    _check_command_exchanges(by_name, queues)
    _check_dead_letters(by_name, queues)
    _check_alternates(by_name, exchanges, queues)
    _check_routing(by_name, queues)


def _check_kinds(exchanges: Sequence[object], queues: Sequence[object]) -> None:
    for items, kind in ((exchanges, Exchange), (queues, Queue)):
        for item in items:
            if not isinstance(item, kind):
                raise ShapeError(
                    f"the topology lists {item!r} among its {kind.__name__.lower()}s",
                    hint=f"list values of {kind.__name__}",
                )
    if not queues:
        raise ShapeError("the topology has no queue", hint="declare at least the default queue")


def _check_names(exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
    _check_unique("exchange", (exchange.name for exchange in exchanges))
    _check_unique("queue", _all_physical_names(queues))


def _check_unique(kind: str, names: Iterable[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise ShapeError(
                f"the {kind} name {name} is used {times} times",
                hint="give each its own name; level 1 of queue `a` is the queue `a.p1` below RabbitMQ 4.3",
            )


def _check_known(
    by_name: dict[str, Exchange], exchanges: Sequence[Exchange], queues: Sequence[Queue]
) -> None:
    used = [(f"queue {queue.name}", queue.exchange) for queue in queues]
    used += [(f"the dead-letter side of queue {queue.name}", queue.dead_letter.exchange) for queue in queues]
    used += [(f"exchange {e.name} (alternate)", e.alternate.exchange) for e in exchanges if e.alternate]
    for user, name in used:
        if name not in by_name:
            raise ShapeError(
                f"{user} uses the exchange {name}, which is not declared",
                hint=f"add Exchange({name!r}, ...) to the topology's exchanges",
            )


def _check_default(queues: Sequence[Queue], default_queue: str) -> None:
    names = [queue.name for queue in queues]
    if default_queue not in names:
        raise ShapeError(
            f"the default queue {default_queue!r} is not declared",
            hint=f"declare it or use one of {', '.join(names)}",
        )


def _check_command_exchanges(by_name: dict[str, Exchange], queues: Sequence[Queue]) -> None:
    for queue in queues:
        exchange = by_name[queue.exchange]
        if exchange.alternate is not None:
            raise ShapeError(
                f"exchange {exchange.name} carries the commands of queue {queue.name} and has an alternate",
                hint="remove it: the broker would confirm a command that reaches no queue, not return it",
            )
        if exchange.type not in ("direct", "topic"):
            raise ShapeError(
                f"exchange {exchange.name} carries commands (queue {queue.name}) and is a {exchange.type}",
                hint="use direct or topic: a command goes to exactly one queue",
            )


def _check_dead_letters(by_name: dict[str, Exchange], queues: Sequence[Queue]) -> None:
    work = set(_all_physical_names(queues))
    commands = {queue.exchange for queue in queues}
    for queue in queues:
        dead = queue.dead_letter
        if dead.queue in work:
            raise ShapeError(
                f"queue {queue.name} sends its dead letters to the work queue {dead.queue}",
                hint="name a queue of its own, such as " + f"{queue.name}.dead",
            )
        if dead.exchange in commands:
            raise ShapeError(
                f"queue {queue.name} sends its dead letters through {dead.exchange}, which carries commands",
                hint="use an exchange of its own, so that no routing key can make a dead letter run again",
            )
        if by_name[dead.exchange].type not in ("direct", "topic"):
            raise ShapeError(
                f"the dead-letter exchange {dead.exchange} is of type {by_name[dead.exchange].type}",
                hint="use direct or topic: each queue's dead letters go to its own dead-letter queue",
            )


def _check_alternates(
    by_name: dict[str, Exchange], exchanges: Sequence[Exchange], queues: Sequence[Queue]
) -> None:
    taken = set(_all_physical_names(queues)) | {queue.dead_letter.queue for queue in queues}
    queue_of: dict[str, str] = {}
    for exchange in exchanges:
        alternate = exchange.alternate
        if alternate is None:
            continue
        if by_name[alternate.exchange].type != "fanout":
            raise ShapeError(
                f"the alternate exchange {alternate.exchange} is of type {by_name[alternate.exchange].type}",
                hint="use fanout: no binding matches a routing key that nothing else matched",
            )
        if alternate.queue in taken:
            raise ShapeError(
                f"exchange {exchange.name} has the alternate queue {alternate.queue}, which has another use",
                hint="name a queue of its own, such as unroutable",
            )
        if queue_of.setdefault(alternate.exchange, alternate.queue) != alternate.queue:
            raise ShapeError(
                f"the alternate exchange {alternate.exchange} leads to two queues, "
                f"{queue_of[alternate.exchange]} and {alternate.queue}",
                hint="a fanout copies every message to both; use one queue or two alternate exchanges",
            )


def _check_routing(by_name: dict[str, Exchange], queues: Sequence[Queue]) -> None:
    for queue in queues:
        for other in queues:
            if other.name == queue.name or other.exchange != queue.exchange:
                continue
            targets = [*_all_physical_names([other]), *other.routing_keys]
            for key in queue.routing_keys:
                if any(_matches(by_name[queue.exchange], key, target) for target in targets):
                    raise ShapeError(
                        f"the routing key {key!r} of queue {queue.name} also leads to queue {other.name}",
                        hint="a command would arrive in both; use routing keys that exclude each other",
                    )


def _matches(exchange: Exchange, pattern: str, key: str) -> bool:
    if exchange.type != "topic":
        return pattern == key
    return _words_match(tuple(pattern.split(".")), tuple(key.split(".")))


def _words_match(pattern: tuple[str, ...], words: tuple[str, ...]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_words_match(pattern[1:], words[skip:]) for skip in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _words_match(pattern[1:], words[1:])


def _all_physical_names(queues: Sequence[Queue]) -> list[str]:
    # brokers without strict priorities have the most physical queues
    return [name for queue in queues for name in queue.names(TABLE[0])]
