"""The addresses of broker and database: which of the several ways to name them wins."""

from collections.abc import Callable
from dataclasses import dataclass

from reliable_tasks.settings.addresses import (
    Address,
    NotAnAddress,
    database_from_parts,
    parse_broker,
    parse_database,
    parse_management,
    standard_management_url,
)
from reliable_tasks.settings.layers import Problem
from reliable_tasks.settings.reader import DEFAULT, Reader
from reliable_tasks.settings.variables import CELERY_BROKER_URL, CELERY_RESULT_BACKEND

BROKER_PARTS = ("RABBITMQ_HOST", "RABBITMQ_PORT", "RABBITMQ_USER", "RABBITMQ_PASSWORD", "RABBITMQ_VHOST")
DATABASE_PARTS = ("DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD")
_TLS_PORT = 5671
_BROKER_URL = "RELIABLE_TASKS_BROKER_URL"
_DATABASE_URL = "RELIABLE_TASKS_DATABASE_URL"
_MANAGEMENT_URL = "RELIABLE_TASKS_MANAGEMENT_URL"


@dataclass(frozen=True)
class Found:
    """An address and who decided it."""

    address: Address
    origin: str


def find_broker(reader: Reader) -> Found | None:
    """An option, then `celery -b` (or CELERY_BROKER_URL), then our URL, then the parts."""
    _refuse_split_broker(reader)
    url, origin = reader.value(_BROKER_URL), reader.origins[_BROKER_URL]
    if reader.explicit_broker_url and not origin.startswith("option "):
        url, origin = reader.explicit_broker_url, f"environment {CELERY_BROKER_URL} (or celery --broker)"
    in_file = reader.env_file.texts.get(CELERY_BROKER_URL, "")
    if url is None and "://" in in_file:
        url, origin = in_file, f"{reader.env_file.origin} {CELERY_BROKER_URL}"
    if url is None:
        return _broker_from_parts(reader)
    address = _parsed(reader, parse_broker, url, origin, "amqp://user:password@host:5672/vhost")
    if address is None:
        return None
    reader.in_effect("RABBITMQ_TLS", str(int(address.scheme == "amqps")), origin)
    hosts = ",".join(node.host for node in address.nodes)
    ports = ",".join(dict.fromkeys(str(node.port) for node in address.nodes))
    parts = (hosts, ports, address.user, address.password, address.path)
    for name, part in zip(BROKER_PARTS, parts, strict=True):
        reader.in_effect(name, part, origin)
    reader.in_effect(_BROKER_URL, address.text(), origin)
    return Found(address, origin)


def find_database(reader: Reader) -> Found | None:
    """An option or our URL, then a full URL in CELERY_RESULT_BACKEND, then the parts."""
    url, origin = reader.value(_DATABASE_URL), reader.origins[_DATABASE_URL]
    backend = reader.value(CELERY_RESULT_BACKEND) or ""
    backend_address = None
    if "://" in backend:
        backend_origin = reader.origins[CELERY_RESULT_BACKEND]
        backend_address = _parsed(reader, parse_database, backend, backend_origin, "postgresql://...")
        if backend_address is None:
            return None
    if url is None and (backend_address is None or reader.given("DB_HOST", "DB_NAME")):
        found: Found | None = _database_from_parts(reader)
    elif url is None and backend_address is not None:
        found = _database_in_effect(reader, backend_address, reader.origins[CELERY_RESULT_BACKEND])
    else:
        address = _parsed(
            reader, parse_database, url or "", origin, "postgresql://user:password@host:5432/database"
        )
        found = _database_in_effect(reader, address, origin) if address else None
    if (
        found
        and backend_address
        and not origin.startswith("option ")
        and _differ(found.address, backend_address)
    ):
        reader.problems.append(
            Problem(
                f"{CELERY_RESULT_BACKEND} and {found.origin} name different databases",
                f"results live in the database of the tasks: set {CELERY_RESULT_BACKEND}=postgres",
            )
        )
    return found


def management_url(reader: Reader, broker: Found) -> str | None:
    """The management API's address: given, or the standard one of a broker on its standard port."""
    url = reader.value(_MANAGEMENT_URL)
    if url is None:
        standard = standard_management_url(broker.address)
        reader.in_effect(_MANAGEMENT_URL, standard, DEFAULT)
        return standard
    try:
        address = parse_management(url)
    except NotAnAddress as why:
        reader.in_effect(_MANAGEMENT_URL, None, reader.origins[_MANAGEMENT_URL])
        reader.problems.append(
            Problem(f"{_MANAGEMENT_URL}: {why}", "give http://host:15672 or https://host:15671")
        )
        return None
    reader.in_effect(_MANAGEMENT_URL, address, reader.origins[_MANAGEMENT_URL])
    return address


def _refuse_split_broker(reader: Reader) -> None:
    for name in ("CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        if reader.environment.texts.get(name):
            reader.problems.append(
                Problem(
                    f"{name} is set, and Celery would use it past our settings",
                    "unset it; tasks are published to and read from one broker",
                )
            )


def _broker_from_parts(reader: Reader) -> Found:
    host, port, user, password, vhost = (reader.value(name) or "" for name in BROKER_PARTS)
    over_tls = reader.value("RABBITMQ_TLS") == "1"
    if over_tls and reader.origins["RABBITMQ_PORT"] == DEFAULT:
        port = str(_TLS_PORT)
        reader.in_effect("RABBITMQ_PORT", port, DEFAULT)
    first, *others = [one.strip() for one in host.split(",")]
    more = tuple((one, int(port)) for one in others if one)
    address = Address("amqps" if over_tls else "amqp", first, int(port), user, password, vhost, others=more)
    origin = ", ".join(reader.given(*BROKER_PARTS)) or DEFAULT
    reader.in_effect(_BROKER_URL, address.text(), "from RABBITMQ_*" if origin != DEFAULT else DEFAULT)
    return Found(address, origin)


def _database_from_parts(reader: Reader) -> Found:
    host, port, name, user = (reader.value(part) or "" for part in DATABASE_PARTS[:4])
    address = database_from_parts(host, int(port), user, reader.value("DB_PASSWORD"), name)
    origin = ", ".join(reader.given("DB_HOST", "DB_NAME")) or DEFAULT
    reader.in_effect(_DATABASE_URL, address.text(), "from DB_*" if reader.given(*DATABASE_PARTS) else DEFAULT)
    return Found(address, origin)


def _database_in_effect(reader: Reader, address: Address, origin: str) -> Found:
    query = dict(address.query)
    host = address.host or query.get("host")
    port = str(address.port) if address.port else query.get("port")
    parts = (host, port, address.path, address.user, address.password)
    for name, part in zip(DATABASE_PARTS, parts, strict=True):
        reader.in_effect(name, part, origin)
    reader.in_effect(_DATABASE_URL, address.text(), origin)
    return Found(address, origin)


def _parsed(
    reader: Reader, parse: Callable[[str], Address], url: str, origin: str, example: str
) -> Address | None:
    try:
        return parse(url)
    except NotAnAddress as why:
        reader.problems.append(
            Problem(f"the URL from {origin} cannot be used: {why}", f"give it as {example}")
        )
        return None


def _differ(one: Address, other: Address) -> bool:
    return (one.host, one.port, one.path, one.user) != (other.host, other.port, other.path, other.user)
