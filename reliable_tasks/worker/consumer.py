"""Celery's consumer without what declares anything, and with a check that everything it needs is there."""

from collections.abc import Callable
from typing import Any, ClassVar

from celery.utils.log import get_logger
from celery.worker.consumer import Consumer

from reliable_tasks.broker.connection import broker_version, connected
from reliable_tasks.broker.deliveries import Delivered
from reliable_tasks.broker.passive import missing_queues
from reliable_tasks.errors import MigrationMissing, ReliableTasksError, TopologyDrift, Undecodable
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.headers import check_headers, deaths_can_be_counted
from reliable_tasks.store import migrations
from reliable_tasks.worker.prefetch import widen
from reliable_tasks.worker.queues import chosen_levels, consume
from reliable_tasks.worker.reading import read_at_once
from reliable_tasks.worker.receiving import receive_as_sent
from reliable_tasks.worker.refusing import refuse_by_hand
from reliable_tasks.worker.serializers import refuse_other_serializers
from reliable_tasks.worker.stopping import stop_outside_of_locks
from reliable_tasks.worker.telling import end_program
from reliable_tasks.worker.together import Together, can_go_together

logger = get_logger("reliable_tasks.worker")
_LOOK_SECONDS = 0.5
_DECLARING = (
    "celery.worker.consumer.delayed_delivery:DelayedDelivery",
    "celery.worker.consumer.mingle:Mingle",
    "celery.worker.consumer.gossip:Gossip",
)


class ReliableConsumer(Consumer):
    """Declares nothing; rejects what cannot be read instead of acking it away."""

    together: Together | None = None
    """Of the present connection; None for a pool whose answers come from other threads."""

    taking: dict[str, Callable[[Any, Any], bool]]
    """By the names of the tasks whose deliveries may go together: what takes one, if that is usual."""

    class Blueprint(Consumer.Blueprint):
        default_steps: ClassVar[list[str]] = [
            step for step in Consumer.Blueprint.default_steps if step not in _DECLARING
        ]

    def __init__(self, *args: Any, worker_options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        # other steps require these, so leaving them out of the list is not enough
        quiet = {"without_mingle": True, "without_gossip": True, "without_heartbeat": True}
        super().__init__(*args, worker_options={**(worker_options or {}), **quiet}, **kwargs)

    def start(self) -> None:
        """Check database and queues once, then consume."""
        try:
            self._check()
        except ReliableTasksError as error:
            raise end_program(error) from None
        stop_outside_of_locks()
        super().start()

    def connect(self) -> Any:
        """As Celery's; what comes over it is not touched."""
        connection = super().connect()
        receive_as_sent(connection)
        if self.together is not None:
            self.together.forget()
        self.together, self.taking = None, {}
        if self.hub is not None and can_go_together(self.controller):
            self.together = Together(self.pool, self.hub)
            read_at_once(connection, self.hub, self._take, self.together.send)
        return connection

    def _take(self, wire: Any, delivery: Delivered) -> bool:
        """Take a delivery that was read without kombu; False when it is not usual."""
        name, channel = delivery.headers.get("task"), wire.channels.get(delivery.number)
        take = self.taking.get(name) if isinstance(name, str) else None
        if take is None or delivery.delivery_info["consumer_tag"] not in getattr(channel, "callbacks", ()):
            return False
        try:
            check_headers(delivery.headers)
        except Undecodable:
            return False
        if not take(delivery, channel):
            return False
        channel.delivered(delivery.delivery_tag)
        return True

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """As Celery's; but a message whose headers are not those of a task (protocol 2) goes no further.

        Celery looks a task up by whatever the header holds, and an exception here ends the worker.
        """
        receive = super().create_task_handler(*args, **options)

        def on_message(message: Any) -> Any:
            try:
                check_headers(message.headers)
            except Undecodable as reason:
                logger.error("A message that is no task goes to the dead-letter queue: %s", reason.message)
                return self._refuse(message)
            return receive(message)

        return on_message

    def register_with_event_loop(self, hub: Any) -> None:
        """As Celery's; hold more of some queues, and look twice a second whether a signal has said to stop."""
        super().register_with_event_loop(hub)
        widen(self)
        # a signal does not end the wait for events: an idle worker would outlast the ten seconds of `docker stop`
        hub.call_repeatedly(_LOOK_SECONDS, lambda: None)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Undecodable: to the dead-letter queue. Celery would ack it, and it would be gone."""
        logger.error("A message that cannot be decoded goes to the dead-letter queue: %r", exc)
        self._refuse(message)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Unknown task: to the dead-letter queue; the collector records it."""
        logger.error("No task %r is registered here: to the dead-letter queue", message.headers.get("task"))
        self._refuse(message)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A request cannot be made of it: to the dead-letter queue."""
        logger.error("A message that is no task goes to the dead-letter queue: %r", exc)
        self._refuse(message)

    def _refuse(self, message: Any) -> None:
        if deaths_can_be_counted(message.headers):
            message.reject_log_error(logger, self.connection_errors)
        else:
            refuse_by_hand(self, message)

    def _check(self) -> None:
        refuse_other_serializers(self.app.conf)
        runtime = self.app.runtime
        database_url, broker_url = runtime.settings.database.url_text(), runtime.settings.broker.url_text()
        found, newest = migrations.current(database_url), migrations.newest()
        if found != newest:
            raise MigrationMissing(
                f"the database is at {f'revision {found}' if found else 'no revision'}, this program needs {newest}",
                hint="run `reliable-tasks db upgrade`",
            )
        with connected(broker_url, purpose="worker start") as connection:
            capabilities = Capabilities.for_version(broker_version(connection))
        needed, former = chosen_levels(self.app, capabilities)
        absent = missing_queues(broker_url, [*needed, *former])
        missing = [name for name in needed if name in absent]
        if missing:
            raise TopologyDrift(
                f"the broker lacks the queue{'s' if len(missing) > 1 else ''} {', '.join(missing)}",
                hint="run `reliable-tasks topology apply`",
            )
        consume(self.app, {**needed, **{name: queue for name, queue in former.items() if name not in absent}})
