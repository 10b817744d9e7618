"""What RabbitMQ's management API tells about one vhost. It only reads."""

import base64
import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from reliable_tasks.broker import tls
from reliable_tasks.broker.connection import DEADLINE_SECONDS, broker_address
from reliable_tasks.errors import BrokerUnreachable, ServiceError, SettingError
from reliable_tasks.model.physical import Binding, Physical, PhysicalExchange, PhysicalQueue
from reliable_tasks.settings.addresses import management_urls

_SETTING = "RELIABLE_TASKS_MANAGEMENT_URL"


@dataclass(frozen=True)
class Depth:
    """What is in a queue, as of the broker's last count (it counts every 5 s unless configured otherwise)."""

    queue: str
    messages: int
    ready: int
    unacked: int
    consumers: int


class Management:
    """The management API, with user, password and vhost of the broker's URL."""

    def __init__(
        self, management_url: str | None, broker_url: str, *, seconds: float = DEADLINE_SECONDS
    ) -> None:
        if management_url is None:
            raise SettingError(
                "the address of RabbitMQ's management API is not known",
                hint=f"set {_SETTING}=http://host:15672; a broker on another port does not tell it",
            )
        address = broker_address(broker_url)
        self._urls = [url.rstrip("/") for url in management_urls(management_url)]
        self.user = address.user or ""
        self.vhost = address.path
        self._seconds = seconds
        credentials = f"{self.user}:{address.password or ''}".encode()
        self._authorization = "Basic " + base64.b64encode(credentials).decode()
        # a proxy from the environment would be asked for loopback addresses too
        verifying = HTTPSHandler(context=tls.context(tls.authorities(address)))
        self._opener = build_opener(ProxyHandler({}), verifying)

    def __repr__(self) -> str:
        return f"Management({self.url!r}, user={self.user!r}, vhost={self.vhost!r})"

    @property
    def url(self) -> str:
        """The node that is asked: the first, until it does not answer."""
        return self._urls[0]

    def version(self) -> str:
        """RabbitMQ's version."""
        return str(self._get("/api/overview")["rabbitmq_version"])

    def health(self) -> list[str]:
        """What is wrong with the node now: alarms in words; empty when nothing is."""
        try:
            answer = self._get("/api/health/checks/local-alarms", unhealthy=503)
        except BrokerUnreachable as error:
            return [error.message]
        if answer.get("status") == "ok":
            return []
        alarms = [str(alarm.get("resource", alarm)) for alarm in answer.get("alarms", [])]
        return [f"alarm: {alarm}" for alarm in alarms] or [str(answer.get("reason", "not healthy"))]

    def live(self) -> Physical:
        """Everything in the vhost that somebody made, without the broker's own exchanges and bindings."""
        vhost = quote(self.vhost, safe="")
        exchanges = self._get(f"/api/exchanges/{vhost}")
        queues = self._queues("name,arguments,durable,auto_delete,exclusive,effective_policy_definition")
        bindings = self._get(f"/api/bindings/{vhost}")
        return Physical(
            tuple(_exchange(e) for e in exchanges if e["name"] and not e["name"].startswith("amq.")),
            tuple(_queue(q) for q in queues),
            tuple(_binding(b) for b in bindings if b["source"]),
        )

    def depths(self) -> dict[str, Depth]:
        """What is in each queue of the vhost."""
        columns = "name,messages,messages_ready,messages_unacknowledged,consumers"
        return {queue["name"]: _depth(queue) for queue in self._queues(columns)}

    def _queues(self, columns: str) -> Any:
        return self._get(f"/api/queues/{quote(self.vhost, safe='')}?columns={columns}")

    def _get(self, path: str, *, unhealthy: int | None = None) -> Any:
        for _ in self._urls[1:]:
            try:
                return self._get_from_first(path, unhealthy)
            except BrokerUnreachable:
                self._urls.append(self._urls.pop(0))
        return self._get_from_first(path, unhealthy)

    def _get_from_first(self, path: str, unhealthy: int | None) -> Any:
        request = Request(self.url + path, headers={"Authorization": self._authorization})
        try:
            with self._opener.open(request, timeout=self._seconds) as answer:
                return json.loads(answer.read())
        except HTTPError as error:
            text = error.read(2000)
            if error.code == unhealthy:
                return _json_or_reason(text)
            raise self._refused(path, error.code, str(_json_or_reason(text).get("reason", ""))) from None
        except (URLError, http.client.HTTPException, OSError) as error:
            raise BrokerUnreachable(
                f"RabbitMQ's management API at {self.url} does not answer: {_reason(error)}",
                hint=f"is the broker up with its management plugin on, and is {_SETTING} right?",
            ) from error
        except ValueError as error:
            raise BrokerUnreachable(
                f"what answers at {self.url} is not RabbitMQ's management API",
                hint=f"check {_SETTING}; the standard port is 15672",
            ) from error

    def _refused(self, path: str, code: int, reason: str) -> ServiceError:
        if code == 401 and "management user" in reason:
            return BrokerUnreachable(
                f"the broker's user {self.user} may not use the management API",
                hint=f"rabbitmqctl set_user_tags {self.user} monitoring; or use another user for topology",
            )
        if code in (401, 403) and "virtual host" in reason:
            return BrokerUnreachable(
                f"the broker's user {self.user} has no access to vhost {self.vhost}, or there is none",
                hint="give it permissions there (rabbitmqctl set_permissions), or check RABBITMQ_VHOST",
            )
        if code in (401, 403):
            return BrokerUnreachable(
                f"RabbitMQ's management API at {self.url} refused user {self.user}: {reason or code}",
                hint="check RABBITMQ_USER and RABBITMQ_PASSWORD, or RELIABLE_TASKS_BROKER_URL",
            )
        if code == 404 and path.count("/") > 2:
            return BrokerUnreachable(
                f"the broker has no vhost {self.vhost}",
                hint=f"create it (rabbitmqctl add_vhost {self.vhost}) or check RABBITMQ_VHOST",
            )
        return BrokerUnreachable(
            f"RabbitMQ's management API at {self.url} refused GET {path.partition('?')[0]}: {code} {reason}",
            hint=f"check {_SETTING}",
        )


def _exchange(found: dict[str, Any]) -> PhysicalExchange:
    return PhysicalExchange(
        found["name"],
        found["type"],
        found["arguments"],
        durable=found["durable"],
        auto_delete=found["auto_delete"],
        internal=found["internal"],
    )


def _queue(found: dict[str, Any]) -> PhysicalQueue:
    return PhysicalQueue(
        found["name"],
        found["arguments"],
        durable=found["durable"],
        auto_delete=found["auto_delete"],
        exclusive=bool(found["exclusive"]),
        # absent until the queue was counted, and an empty list where none applies
        policy=dict(found.get("effective_policy_definition") or {}),
    )


def _binding(found: dict[str, Any]) -> Binding:
    return Binding(
        found["source"],
        found["destination"],
        found["routing_key"],
        found["arguments"],
        to_exchange=found["destination_type"] == "exchange",
    )


def _depth(found: dict[str, Any]) -> Depth:
    # a queue that was not counted yet has no numbers
    return Depth(
        found["name"],
        found.get("messages", 0),
        found.get("messages_ready", 0),
        found.get("messages_unacknowledged", 0),
        found.get("consumers", 0),
    )


def _json_or_reason(text: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, URLError) else error
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
