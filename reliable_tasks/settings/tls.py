"""Encryption on the way: how the addresses say it, and what production refuses to send in the clear."""

from dataclasses import replace
from ipaddress import ip_address

from reliable_tasks.settings.addresses import Address, management_urls
from reliable_tasks.settings.layers import Problem

CA_PARAMETER = "cacertfile"
"""In a broker's URL, as in RabbitMQ's own (https://www.rabbitmq.com/docs/uri-query-parameters)."""

_VERIFIED = "verify-full"


def broker_over_tls(address: Address, ca: str | None) -> Address:
    """The broker's address with the authorities that it is verified by."""
    return _with(address, {CA_PARAMETER: ca} if ca else {})


def database_over_tls(address: Address, ca: str | None, *, production: bool) -> Address:
    """The database's address, verified by name wherever authorities are given, and in production wherever it is."""
    given = {"sslrootcert": ca} if ca else {}
    if not _all_local(_database_hosts(address)) and (ca or production):
        given["sslmode"] = _VERIFIED
    return _with(address, given)


def plaintext(
    broker: Address, database: Address, management_url: str | None, allowed: frozenset[str]
) -> list[Problem]:
    """What would be readable on the way, or sent to somebody who only says that he is the one."""
    found = []
    brokers = [node.host for node in broker.nodes]
    if broker.scheme != "amqps" and not _all_local(brokers, allowed):
        found.append(
            Problem(
                f"RELIABLE_TASKS_ENV=production refuses to speak to the broker at {', '.join(brokers)} without TLS",
                "set RABBITMQ_TLS=1, or an amqps:// URL, and RELIABLE_TASKS_TLS_CA",
            )
        )
    mode = dict(database.query).get("sslmode")
    if mode != _VERIFIED and not _all_local(_database_hosts(database), allowed):
        found.append(
            Problem(
                f"RELIABLE_TASKS_ENV=production refuses sslmode={mode} to the database at {database.host}",
                f"leave it out, or say sslmode={_VERIFIED}; and set RELIABLE_TASKS_TLS_CA",
            )
        )
    for url in management_urls(management_url) if management_url else []:
        scheme, _, rest = url.partition("://")
        host = rest.partition("/")[0].rpartition(":")[0] or rest.partition("/")[0]
        if scheme != "https" and not _all_local([host.strip("[]")], allowed):
            found.append(
                Problem(
                    f"RELIABLE_TASKS_ENV=production refuses to send the broker's password to {host} without TLS",
                    "set RELIABLE_TASKS_MANAGEMENT_URL to an https:// address",
                )
            )
    return found


def _with(address: Address, given: dict[str, str]) -> Address:
    """The address with these parameters, where it says nothing itself."""
    present = {name for name, _ in address.query}
    more = tuple((name, value) for name, value in given.items() if name not in present)
    return replace(address, query=address.query + more)


def _database_hosts(address: Address) -> list[str]:
    query = dict(address.query)
    named = [address.host, query.get("host", ""), query.get("hostaddr", "")]
    return [host for text in named for host in text.split(",") if host]


def _all_local(hosts: list[str], allowed: frozenset[str] = frozenset()) -> bool:
    return all(_is_local(host) or host in allowed for host in hosts)


def _is_local(host: str) -> bool:
    if host == "localhost" or host.startswith(("/", "@")):
        return True  # the folder of a socket, or an abstract one
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
