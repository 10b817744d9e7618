"""Declares what a plan says on a broker, and nothing else."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import pika
import pika.exceptions

from reliable_tasks.broker.connection import broker_address, connected
from reliable_tasks.errors import OperationRefused, ServiceError, TopologyDrift
from reliable_tasks.model.physical import Binding, Item, PhysicalExchange, PhysicalQueue

_INEQUIVALENT = re.compile(r"inequivalent arg '([^']+)' for (\w+) '([^']+)'.*?received (.*)$")
_ACCESS_REFUSED, _NOT_FOUND, _PRECONDITION_FAILED = 403, 404, 406


def declare(
    broker_url: str, items: Iterable[Item], *, declared: Callable[[Item], None] = lambda item: None
) -> None:
    """Declare the items in the order given, which must be a safe one (`Physical.in_safe_order`).

    Declaring what is there already, with the same arguments, changes nothing. `declared` is told after each.

    Raises:
        TopologyDrift: something of that name is there with other arguments.
        OperationRefused: the broker's user may not declare it.
        BrokerUnreachable: the broker is not there, or went away.
    """
    address = broker_address(broker_url)
    with connected(broker_url, purpose="topology") as connection:
        channel = connection.channel()
        for item in items:
            try:
                _declare(channel, item)
            except pika.exceptions.ChannelClosedByBroker as error:
                raise _refused(item, error, address.user or "", address.path) from error
            declared(item)


def _declare(channel: Any, item: Item) -> None:
    match item:
        case PhysicalExchange():
            channel.exchange_declare(
                item.name, item.type, durable=item.durable, arguments=dict(item.arguments)
            )
        case PhysicalQueue():
            channel.queue_declare(item.name, durable=item.durable, arguments=dict(item.arguments))
        case Binding():
            channel.queue_bind(item.queue, item.exchange, item.routing_key, arguments=dict(item.arguments))


def _refused(item: Item, error: pika.exceptions.ChannelClosedByBroker, user: str, vhost: str) -> Exception:
    text = str(error.reply_text)
    if error.reply_code == _PRECONDITION_FAILED:
        found = _INEQUIVALENT.search(text)
        what = f"{found[1]}: {found[4]}" if found else text
        return TopologyDrift(
            f"{item.title} is there with other properties: {what}",
            hint="`reliable-tasks topology plan` lists the differences; nothing of it was changed",
        )
    if error.reply_code == _ACCESS_REFUSED:
        return OperationRefused(
            f"the broker's user {user} may not declare {item.title} in vhost {vhost}",
            hint="run apply as a user with configure, write and read permission there; "
            "workers and publishers need no configure permission",
        )
    if error.reply_code == _NOT_FOUND:
        return TopologyDrift(
            f"{item.title} cannot be made: {text}",
            hint="somebody removed it meanwhile; run `reliable-tasks topology apply` again",
        )
    return ServiceError(f"the broker refused {item.title}: {text}", hint="the broker's log may say more")
