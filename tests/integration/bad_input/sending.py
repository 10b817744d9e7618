"""Sending bad messages as anybody can who may write to the broker."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pika
import pika.exceptions

from tests.deployment import Deployment
from tests.integration.bad_input.bad_messages import BadMessage, End, Target

APPLICATION = "tests.integration.bad_input.application"
TARGET = Target(f"{APPLICATION}.pay", f"{APPLICATION}.note")


@contextmanager
def channel_to(around: Deployment) -> Iterator[Any]:
    """A channel with confirms."""
    with closing(pika.BlockingConnection(pika.URLParameters(around.broker_url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


def send(
    around: Deployment, messages: Iterable[BadMessage], batch: str, queue: str = "default"
) -> dict[str, BadMessage]:
    """Send each message, confirmed by the broker; returns them by the names of their cases."""
    cases = {f"{batch}.{message.name}": message for message in messages}
    for case, message in cases.items():
        if message.end is not End.NEVER_SENT:
            continue
        try:
            with channel_to(around) as channel:
                publish(channel, message, case, queue)
        except (pika.exceptions.ChannelClosedByBroker, pika.exceptions.ConnectionClosedByBroker):
            continue
        raise AssertionError(f"the broker has taken {case}")
    with channel_to(around) as channel:
        for case, message in cases.items():
            if message.end is not End.NEVER_SENT:
                publish(channel, message, case, queue)
    return cases


def publish(channel: Any, message: BadMessage, case: str, queue: str) -> None:
    """Send one."""
    channel.basic_publish(
        "commands", queue, message.body_for(case), message.properties_for(case, TARGET), mandatory=True
    )
