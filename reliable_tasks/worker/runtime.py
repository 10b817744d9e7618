"""What a worker or publisher holds: settings, shape, database engine and publisher, each made when first needed."""

from collections.abc import Sequence
from functools import cached_property

from reliable_tasks import failpoints
from reliable_tasks.broker.publisher import Publisher
from reliable_tasks.model.capabilities import Capabilities
from reliable_tasks.model.envelope import Message
from reliable_tasks.model.shape import Route, Topology
from reliable_tasks.model.signing import Signer, signer_of
from reliable_tasks.settings import Settings
from reliable_tasks.store import outbox
from reliable_tasks.store.engine import begin, create_engine


class Runtime:
    """The adapters of one application; one instance, shared by publisher and worker, safe across forks."""

    def __init__(self, settings: Settings, topology: Topology) -> None:
        self.settings = settings
        self.topology = topology
        self.signer: Signer = signer_of(settings.signing)
        self._routes: dict[str, tuple[Capabilities, Route]] = {}

    @cached_property
    def engine(self):  # type: ignore[no-untyped-def]  # the type belongs to SQLAlchemy, whose home is store
        return create_engine(self.settings.database.url_text())

    @cached_property
    def publisher(self) -> Publisher:
        return Publisher(self.settings.broker.url_text(), self.route)

    def route(self, message: Message, capabilities: Capabilities) -> Route:
        """Where a message goes: to the exchange it names, else by its queue and priority."""
        if message.exchange:
            return Route(message.exchange, message.routing_key, message.queue, message.priority)
        if message.priority is not None:
            return self.topology.route(message.queue, message.priority, capabilities)
        known = self._routes.get(message.queue)
        if known is None or known[0] is not capabilities:
            known = capabilities, self.topology.route(message.queue, None, capabilities)
            self._routes[message.queue] = known
        return known[1]

    def send_now_or_when_due(self, message: Message) -> None:
        """Publish with a confirm; what is due later becomes an outbox row in a transaction of its own."""
        if message.due_at is None and message.delay is None:
            self.publisher.publish(message)
        else:
            self.keep([message])

    def send_all(self, messages: Sequence[Message]) -> None:
        """The same for many, with pipelined confirms.

        Raises:
            PublishError: that of the first which the broker did not take.
        """
        later = [message for message in messages if message.due_at is not None or message.delay is not None]
        if later:
            self.keep(later)
        at_once = [message for message in messages if message.due_at is None and message.delay is None]
        for outcome in self.publisher.publish_all(at_once) if at_once else ():
            if outcome is not None:
                raise outcome

    def keep(self, messages: Sequence[Message]) -> None:
        """Write messages to the outbox, in a transaction of its own."""
        with begin(self.engine) as connection:
            outbox.add(connection, messages)
            if failpoints.ACTIVE:
                failpoints.reach("pub.before_commit", connection.connection)
        if failpoints.ACTIVE:
            failpoints.reach("pub.after_commit")
