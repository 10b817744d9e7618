"""A blocking AMQP connection for operators' acts, with deadlines; failures are told without the password."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pika
import pika.exceptions

from reliable_tasks.broker import tls
from reliable_tasks.errors import BrokerUnreachable, SettingError
from reliable_tasks.settings.addresses import Address, NotAnAddress, parse_broker

DEADLINE_SECONDS = 10.0
_NAME = "reliable-tasks"

# What pika logs as an error it raises as well, and we tell it in one line; who wants more sets this logger's level.
if logging.getLogger("pika").level == logging.NOTSET:
    logging.getLogger("pika").setLevel(logging.CRITICAL)


def broker_address(broker_url: str) -> Address:
    """The parts of a broker's URL.

    Raises:
        SettingError: when it is no AMQP URL.
    """
    try:
        return parse_broker(broker_url)
    except NotAnAddress as why:
        raise SettingError(
            f"the broker's URL cannot be used: {why}", hint="give amqp://user:password@host:5672/vhost"
        ) from None


@contextmanager
def connected(
    broker_url: str, *, purpose: str = "operator", seconds: float = DEADLINE_SECONDS
) -> Iterator[pika.BlockingConnection]:
    """A connection that is closed at the end, to the first node that answers; the broker's list shows its purpose.

    Raises:
        BrokerUnreachable: when it cannot be made, or breaks while it is used.
    """
    address = broker_address(broker_url)
    parameters = [_parameters(node, purpose, seconds) for node in address.nodes]
    try:
        connection = pika.BlockingConnection(parameters)
    except Exception as error:
        raise _unreachable(address, error) from error
    try:
        yield connection
    except (pika.exceptions.ConnectionClosed, pika.exceptions.StreamLostError) as error:
        raise BrokerUnreachable(
            f"the broker at {_place(address)} ended the connection: {_reason(error)}",
            hint="the broker's log says why; what was declared before that stays",
        ) from error
    finally:
        with suppress(pika.exceptions.AMQPError, OSError):
            connection.close()


def broker_version(connection: pika.BlockingConnection) -> str:
    """The version the broker said at the start of the connection; needs no management rights."""
    # pika keeps the server's properties on the connection that its blocking one wraps
    properties: dict[str, Any] = connection._impl.server_properties or {}
    return str(properties.get("version", ""))


def _parameters(address: Address, purpose: str, seconds: float) -> pika.ConnectionParameters:
    options: dict[str, Any] = {}
    if address.scheme == "amqps":
        options["ssl_options"] = pika.SSLOptions(tls.context(tls.authorities(address)), address.host)
    return pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=address.path,
        credentials=pika.PlainCredentials(address.user, address.password),
        connection_attempts=1,
        socket_timeout=seconds,
        stack_timeout=seconds,
        blocked_connection_timeout=seconds,
        client_properties={"connection_name": f"{_NAME} {purpose}"},
        **options,
    )


def _unreachable(address: Address, error: Exception) -> BrokerUnreachable:
    text = _reason(error)
    place = _place(address)
    if isinstance(error, pika.exceptions.ProbableAuthenticationError) or "ACCESS_REFUSED" in text:
        return BrokerUnreachable(
            f"the broker at {place} refused the password of user {address.user}",
            hint="check RABBITMQ_USER and RABBITMQ_PASSWORD, or RELIABLE_TASKS_BROKER_URL",
        )
    if "not found" in text and "vhost" in text:
        return BrokerUnreachable(
            f"the broker at {place} has no vhost {address.path}",
            hint=f"create it (rabbitmqctl add_vhost {address.path}) or check RABBITMQ_VHOST",
        )
    if isinstance(error, pika.exceptions.ProbableAccessDeniedError) or "NOT_ALLOWED" in text:
        return BrokerUnreachable(
            f"the broker at {place} does not let user {address.user} into vhost {address.path}: {text}",
            hint="give it permissions there: rabbitmqctl set_permissions",
        )
    if isinstance(error, socket.gaierror):
        return BrokerUnreachable(
            f"the broker's host {', '.join(node.host for node in address.nodes)} is unknown: {error.strerror}",
            hint="check RABBITMQ_HOST or RELIABLE_TASKS_BROKER_URL",
        )
    if isinstance(error, pika.exceptions.IncompatibleProtocolError):
        return BrokerUnreachable(
            f"what listens at {place} does not speak AMQP",
            hint="check the port: 5672 for amqp, 5671 for amqps; 15672 is the management API",
        )
    return BrokerUnreachable(
        f"the broker at {place} does not answer: {text}",
        hint="is it running, and are host and port right? `reliable-tasks config show` tells what is used",
    )


def _place(address: Address) -> str:
    return ", ".join(f"{node.host}:{node.port}" for node in address.nodes)


def _reason(error: BaseException) -> str:
    """The innermost reason that pika wrapped."""
    if isinstance(error, pika.exceptions.ConnectionClosed):
        return str(error.reply_text)
    for inner in (getattr(error, "exception", None), *error.args, error.__cause__):
        if isinstance(inner, BaseException):
            return _reason(inner)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error.args[0]) if error.args else type(error).__name__
