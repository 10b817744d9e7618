"""The HTTP endpoint that Prometheus scrapes."""

from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry, start_http_server

from reliable_tasks.errors import SettingError
from reliable_tasks.observe.metrics import ReliableCollector
from reliable_tasks.settings import Settings


class MetricsEndpoint:
    """Serves /metrics while the context lasts.

    Args:
        host: the address to listen on; anything but loopback shows queue and task names to the network.
        port: 0 takes a free one, see `url`.

    Raises:
        SettingError: when the address cannot be listened on.
    """

    def __init__(self, settings: Settings, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._collector = ReliableCollector(settings)
        registry = CollectorRegistry()
        registry.register(self._collector)
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except (OSError, OverflowError) as error:
            self._collector.close()
            raise SettingError(
                f"the exporter cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
                hint="give another --port, or --port 0 for a free one",
            ) from error
        self.port = int(self._server.server_port)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.port}/metrics"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and give back the connections."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._collector.close()
