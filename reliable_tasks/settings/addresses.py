"""URLs of the broker and the database: parse, normalise, build from parts, mask."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

MASK = "***"

BROKER_SCHEMES = {"amqp": "amqp", "pyamqp": "amqp", "amqps": "amqps"}
DATABASE_SCHEMES = (
    "postgresql",
    "postgres",
    "postgresql+psycopg2",
    "db+postgresql",
    "db+postgresql+psycopg2",
    "reliable+postgresql",
)
_STANDARD_PORTS = {"amqp": 5672, "amqps": 5671, "postgresql": 5432}
_SEPARATOR = ";"
"""Between the addresses of several nodes, as Celery has it."""

_SECRET_QUERY_NAMES = ("password", "sslpassword", "secret", "token")


class SecretUrl(str):
    """A URL with its password: itself where it is used, masked where a traceback or a debugger shows a variable."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(mask_url(str(self)))


@dataclass(frozen=True, repr=False)
class Address:
    """The parts of a URL, decoded. `path` is the vhost or the database, without the separating slash."""

    scheme: str
    host: str
    port: int | None
    user: str | None
    password: str | None
    path: str
    query: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[str, int | None], ...] = ()
    """Host and port of further nodes of the same broker; everything else is the same for all of them."""

    @property
    def nodes(self) -> "tuple[Address, ...]":
        """Each node by itself, in the order in which they were named."""
        return tuple(
            replace(self, host=host, port=port, others=())
            for host, port in ((self.host, self.port), *self.others)
        )

    def text(self, scheme: str | None = None, *, masked: bool = False) -> str:
        """The URL, percent-encoded, under another scheme if asked; of several nodes, their URLs."""
        pieces = (node._pieces(scheme or self.scheme, masked) for node in self.nodes)
        return SecretUrl(_SEPARATOR.join(map("".join, pieces)))

    def __repr__(self) -> str:
        return f"Address({self.text(masked=True)!r})"

    def _pieces(self, scheme: str, masked: bool) -> Iterator[str]:
        yield f"{scheme}://"
        if self.user is not None:
            yield quote(self.user, safe="")
        if self.password is not None:
            yield ":" + (MASK if masked else quote(self.password, safe=""))
        if self.user is not None or self.password is not None:
            yield "@"
        yield f"[{self.host}]" if ":" in self.host else self.host
        if self.port is not None:
            yield f":{self.port}"
        yield "/" + quote(self.path, safe="")
        if self.query:
            shown = [(k, MASK if masked and k.lower() in _SECRET_QUERY_NAMES else v) for k, v in self.query]
            yield "?" + urlencode(shown, safe="*/" if masked else "/")


class NotAnAddress(ValueError):
    """The text is no URL of the wanted kind; the message says why and never contains the text."""


def parse_broker(url: str) -> Address:
    """An AMQP URL with every part filled in: port, guest account, vhost "/".

    Those of several nodes of a cluster are separated by semicolons.
    """
    first, *others = (_parse_node(one) for one in _each(url))
    for other in others:
        if replace(other, host=first.host, port=first.port) != first:
            raise NotAnAddress(
                "it lists nodes that differ in more than host and port; "
                "a cluster has one account and one vhost, and percent-encode ; in a password as %3B"
            )
    return replace(first, others=tuple((other.host, other.port) for other in others))


def _parse_node(url: str) -> Address:
    address = _parse(url, tuple(BROKER_SCHEMES))
    if not address.host:
        raise NotAnAddress("it has no host")
    scheme = BROKER_SCHEMES[address.scheme]
    return Address(
        scheme,
        address.host,
        address.port or _STANDARD_PORTS[scheme],
        "guest" if address.user is None else address.user,
        "guest" if address.password is None else address.password,
        address.path or "/",
        address.query,
    )


def parse_database(url: str) -> Address:
    """A Postgres URL under any of the schemes people write, as scheme `postgresql`."""
    address = _parse(url, DATABASE_SCHEMES)
    if not address.path:
        raise NotAnAddress("it names no database after the host")
    if not address.host and "host" not in dict(address.query):
        raise NotAnAddress("it has no host")
    port = address.port or (_STANDARD_PORTS["postgresql"] if address.host else None)
    return Address(
        "postgresql", address.host, port, address.user, address.password, address.path, address.query
    )


def database_from_parts(host: str, port: int, user: str, password: str | None, name: str) -> Address:
    """A Postgres address; a host that is a folder means the socket in it."""
    if host.startswith("/"):
        return Address("postgresql", "", None, user, password, name, (("host", host), ("port", str(port))))
    return Address("postgresql", host, port, user, password, name)


def parse_management(url: str) -> str:
    """The base URL of the management API, without a trailing slash and without credentials; or those of all nodes."""
    return _SEPARATOR.join(_parse_one_management(one) for one in _each(url))


def management_urls(url: str) -> list[str]:
    """Each of the URLs that `parse_management` has joined."""
    return _each(url)


def _parse_one_management(url: str) -> str:
    address = _parse(url, ("http", "https"))
    if address.user is not None or address.password is not None:
        raise NotAnAddress("it carries a user; user and password are taken from the broker's URL")
    if not address.host:
        raise NotAnAddress("it has no host")
    return url.rstrip("/")


def standard_management_url(broker: Address) -> str | None:
    """Where the management API is on a broker with standard ports; None when its port says nothing.

    A guess for any other port could reach another broker on the same machine.
    """
    if any(node.port != _STANDARD_PORTS[node.scheme] for node in broker.nodes):
        return None
    hosts = [f"[{node.host}]" if ":" in node.host else node.host for node in broker.nodes]
    form = "https://{}:15671" if broker.scheme == "amqps" else "http://{}:15672"
    return _SEPARATOR.join(form.format(host) for host in hosts)


def mask_url(url: str) -> str:
    """Any URL with its password replaced; a text that is no URL is replaced altogether."""
    try:
        return _SEPARATOR.join(_parse(one, ()).text(masked=True) for one in _each(url))
    except NotAnAddress:
        return MASK


def without_password(url: str) -> str:
    """The URL as it may be seen by everybody: no password, no parameters."""
    shown = (replace(_parse(one, ()), password=None, query=()) for one in _each(url))
    return _SEPARATOR.join(address.text() for address in shown)


def _each(url: str) -> list[str]:
    """The URLs of a list; a semicolon before anything else than a further URL belongs to the one that it is in."""
    return re.split(r";(?=[A-Za-z][A-Za-z0-9+.-]*://)", url)


def _parse(url: str, schemes: tuple[str, ...]) -> Address:
    if "://" not in url:
        raise NotAnAddress("it is not a full URL")
    scheme = url.partition("://")[0].lower()
    if schemes and scheme not in schemes:
        raise NotAnAddress(f"its scheme is {scheme}://, not {' or '.join(f'{s}://' for s in schemes)}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # urlsplit quotes the offending part, which may be half a password
        raise NotAnAddress(
            "its host or port cannot be read; percent-encode : / ? # @ [ ] in user and password"
        ) from None
    if parts.fragment:
        raise NotAnAddress("it contains a bare #; percent-encode it as %23")
    return Address(
        scheme,
        parts.hostname or "",
        port,
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
        unquote(parts.path[1:]),
        tuple(parse_qsl(parts.query, keep_blank_values=True)),
    )
