"""What tests and people need from RabbitMQ's management API: readiness, vhosts, users."""

import base64
import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

from reliable_tasks.errors import BrokerUnreachable, ServiceError

_SECONDS = 30
_ALL = ".*"


class Management:
    """The management API of one private broker."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url
        self._user = user
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        # a proxy from the environment would be asked for loopback addresses too
        self._opener = build_opener(ProxyHandler({}))

    def version(self) -> str:
        """RabbitMQ's version."""
        return str(self._call("GET", "/api/overview")["rabbitmq_version"])

    def healthy(self) -> bool:
        """Whether the broker runs, knows itself and no alarm is set."""
        try:
            self._call("GET", "/api/health/checks/alarms", seconds=2)
            # 4.3 answers this one a moment later than the other, with 500 until then
            self._call("GET", "/api/overview", seconds=2)
        except ServiceError:
            return False
        return True

    def vhosts(self) -> list[str]:
        """Names of all vhosts."""
        return [vhost["name"] for vhost in self._call("GET", "/api/vhosts?columns=name")]

    def node_pids(self) -> list[int]:
        """The operating system's process of each node; of a node that has just started it is not known yet."""
        return [int(node["os_pid"]) for node in self._call("GET", "/api/nodes") if "os_pid" in node]

    def quorum_queues(self) -> list[bytes]:
        """The names under which the broker's Raft knows its quorum queues."""
        queues = self._call("GET", "/api/queues?columns=vhost,name,type")
        found = [(queue["vhost"], queue["name"]) for queue in queues if queue["type"] == "quorum"]
        return [f"{'%2F' if vhost == '/' else vhost}_{name}".encode() for vhost, name in found]

    def create_vhost(self, name: str) -> None:
        """Make a vhost in which the administrator may do everything."""
        self._call("PUT", f"/api/vhosts/{_part(name)}", {})
        self.allow(self._user, name, _ALL, _ALL, _ALL)

    def delete_vhost(self, name: str) -> None:
        """Remove a vhost with everything in it; fine when there is none."""
        self._call("DELETE", f"/api/vhosts/{_part(name)}", absent_is_fine=True)

    def create_user(
        self, name: str, password: str, vhost: str, configure: str, write: str, read: str, tags: str = ""
    ) -> None:
        """Make a user who may do this in one vhost."""
        self._call("PUT", f"/api/users/{_part(name)}", {"password": password, "tags": tags})
        self.allow(name, vhost, configure, write, read)

    def delete_user(self, name: str) -> None:
        """Remove a user; fine when there is none."""
        self._call("DELETE", f"/api/users/{_part(name)}", absent_is_fine=True)

    def allow(self, user: str, vhost: str, configure: str, write: str, read: str) -> None:
        """Set what a user may do in a vhost, as three regular expressions."""
        permissions = {"configure": configure, "write": write, "read": read}
        self._call("PUT", f"/api/permissions/{_part(vhost)}/{_part(user)}", permissions)

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        seconds: float = _SECONDS,
        absent_is_fine: bool = False,
    ) -> Any:
        request = Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": self._authorization, "Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=seconds) as answer:
                text = answer.read()
        except HTTPError as error:
            if absent_is_fine and error.code == 404:
                return None
            reason = error.read(300).decode("utf-8", "replace")
            raise ServiceError(f"RabbitMQ refused {method} {path}: {error.code} {reason}") from None
        except (URLError, http.client.HTTPException, OSError) as error:
            raise BrokerUnreachable(f"RabbitMQ's management API at {self._url} does not answer") from error
        return json.loads(text) if text else None


def _part(text: str) -> str:
    return quote(text, safe="")
