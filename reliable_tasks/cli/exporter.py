"""`reliable-tasks exporter`: metrics for Prometheus."""

import signal
import threading

import rich_click as click

from reliable_tasks.cli.context import settings_options
from reliable_tasks.settings import Settings

PORT = 9809


@click.command()
@settings_options()
@click.option(
    "--port", default=PORT, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on; it asks for no password.",
)
def exporter(settings: Settings, port: int, host: str) -> None:
    """Serve metrics of database and broker for Prometheus, until SIGTERM or Ctrl-C; prints the URL.

    One exporter for each deployment: every number is read from the database and the broker at each scrape.
    """
    from reliable_tasks.observe.endpoint import MetricsEndpoint
    from reliable_tasks.observe.logs import configure_logging, format_of

    configure_logging(format_of(settings.log_format) or "console")

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with MetricsEndpoint(settings, host=host, port=port) as endpoint:
        click.echo(endpoint.url)
        stop.wait()
