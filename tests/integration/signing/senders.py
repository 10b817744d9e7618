"""Senders that are not the application: a forger, and a look at what is on its way."""

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pika

from reliable_tasks.model.envelope import Message
from reliable_tasks.model.signing import Key, Signer, Signing
from reliable_tasks.worker.publishing import redirect
from tests.deployment import Deployment

SECRETS = {"2026-a": b"a" * 32, "2025-b": b"b" * 32}
KEYS = (
    "2026-a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=,2025-b:YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI="
)
SIGNER = Signer(tuple(Key(*pair) for pair in SECRETS.items()), Signing.REQUIRED)
APPLICATION = "tests.integration.signing.application"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def body_of(*args: Any, **kwargs: Any) -> bytes:
    return json.dumps([args, kwargs, EMBED]).encode()


def publish(
    around: Deployment,
    queue: str,
    body: bytes,
    headers: dict[str, Any],
    *,
    exchange: str = "",
    **properties: Any,
) -> None:
    """Put a message into a queue as anybody can who may write to the broker."""
    shown = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        **properties,
    }
    with closing(pika.BlockingConnection(pika.URLParameters(around.broker_url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            exchange, queue, body, pika.BasicProperties(headers=headers, **shown), mandatory=True
        )


def capture(send: Callable[[], Any]) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """What an application would send, as whoever reads the broker sees it: body, headers, properties."""
    sent: list[Message] = []
    with redirect(sent.append):
        send()
    (message,) = sent
    return message.body, message.headers, message.properties
