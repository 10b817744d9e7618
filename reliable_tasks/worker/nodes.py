"""Celery's connection to a cluster: whichever node is next is verified by its own name."""

from typing import Any
from urllib.parse import urlsplit

from celery.app.amqp import AMQP
from kombu import Connection


class NodeConnection(Connection):
    """As kombu's, which would verify every node by the name of the first."""

    def switch(self, conn_str: str) -> Any:
        """Take the next node, at its own name."""
        over_tls = self._initial_params["ssl"]
        if isinstance(over_tls, dict):
            self._initial_params["ssl"] = {**over_tls, "server_hostname": urlsplit(conn_str).hostname}
        return super().switch(conn_str)  # type: ignore[no-untyped-call]  # kombu has no types


class ClusterAMQP(AMQP):
    """Celery's part that makes connections."""

    Connection = NodeConnection
