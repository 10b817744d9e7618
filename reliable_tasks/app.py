"""ReliableCelery: a Celery application whose tasks are published, executed and recorded reliably."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import cached_property
from typing import Any

from celery import Celery
from celery.exceptions import QueueNotFound

from reliable_tasks import failpoints
from reliable_tasks.broker import tls
from reliable_tasks.broker.connection import broker_address
from reliable_tasks.errors import UnknownQueue
from reliable_tasks.model.envelope import Message
from reliable_tasks.model.retry import Retry
from reliable_tasks.model.shape import Topology
from reliable_tasks.model.shape_loading import load_topology
from reliable_tasks.observe.logs import format_of, restyle, route_events_to_logging
from reliable_tasks.settings import Settings, load_settings, publish_celery_environment
from reliable_tasks.settings.addresses import without_password
from reliable_tasks.store.chords import NewChord
from reliable_tasks.store.chords import statements as chord_statements
from reliable_tasks.store.identity import new_task_id
from reliable_tasks.store.outbox import insert_statement
from reliable_tasks.store.sessions import around_commit, execute_in
from reliable_tasks.worker.bulk import publish_many
from reliable_tasks.worker.celery_logging import join_celery_logging
from reliable_tasks.worker.chording import FINISH, finish_chord
from reliable_tasks.worker.configuration import celery_configuration
from reliable_tasks.worker.options import CallAgain, Probe, TaskOptions, effects_named, refuse_lossy
from reliable_tasks.worker.publishing import Sender, due, redirect, together
from reliable_tasks.worker.runtime import Runtime
from reliable_tasks.worker.sending_alike import Patterns
from reliable_tasks.worker.task import IdempotentTask, ReliableTask, attributes_of, idempotent_run
from reliable_tasks.worker.telling import told_by_celery


class ReliableCelery(Celery):
    """A Celery application; `celery -A module worker` runs it.

    Args:
        main: the application's name.
        topology: "module:NAME" of the declared shape, or a Topology; by default RELIABLE_TASKS_TOPOLOGY.
        settings: by default read from the environment.
        remote_control: whether workers answer `celery inspect` and `control`, as RELIABLE_TASKS_REMOTE_CONTROL=1
            says it, too; they then need the right to configure their own reply queues on the broker, and only those.
            In production only the setting counts.

    Raises:
        SettingError: when settings or topology cannot be loaded.
    """

    task_cls = ReliableTask
    amqp_cls = "reliable_tasks.worker.nodes:ClusterAMQP"
    control_cls = "reliable_tasks.worker.control:Control"

    @told_by_celery()
    def __init__(
        self,
        main: str | None = None,
        *,
        topology: str | Topology | None = None,
        settings: Settings | None = None,
        remote_control: bool = False,
        **kwargs: Any,
    ) -> None:
        settings = settings or load_settings(topology=topology if isinstance(topology, str) else None)
        publish_celery_environment(settings, passwords=False)
        shape = topology if isinstance(topology, Topology) else load_topology(settings.topology)
        self.runtime = Runtime(settings, shape)
        self._levels = {
            f"{queue.name}.p{level}" if level else queue.name: (queue.name, level)
            for queue in shape.queues
            for level in range(queue.levels)
        }
        self.patterns = Patterns()
        super().__init__(main, **kwargs)
        self.conf.update(celery_configuration(self.runtime, remote_control))
        self.task(finish_chord, name=FINISH, shared=False, ignore_result=True)
        form = format_of(settings.log_format)
        join_celery_logging(
            route_events_to_logging, (lambda handler: restyle(handler, form)) if form else None
        )

    @cached_property
    def sends_plainly(self) -> bool:
        """Whether it sends tasks as we do, and not in a way of its own."""
        return type(self).send_task is ReliableCelery.send_task

    @cached_property
    def AsyncResult(self) -> Any:
        return self.subclass_with_self("reliable_tasks.worker.result:AsyncResult")

    @cached_property
    def ResultSet(self) -> Any:
        return self.subclass_with_self("reliable_tasks.worker.sets:JoinedSet")

    @cached_property
    def Worker(self) -> Any:
        return self.subclass_with_self("reliable_tasks.worker.worker_program:ReliableWorker")

    @cached_property
    def GroupResult(self) -> Any:
        return self.subclass_with_self("reliable_tasks.worker.sets:JoinedGroup")

    def _connection(self, url: Any, *args: Any, **options: Any) -> Any:
        """As Celery's; the password, which no environment holds, is put in here, and the broker is verified."""
        settings = self.runtime.settings.broker
        if url is None or url == without_password(settings.celery_url_text()):
            url = settings.celery_url_text()
            options["ssl"] = tls.options(broker_address(settings.url_text()))
        return super()._connection(url, *args, **options)

    @told_by_celery()
    def idempotent_task(
        self,
        *,
        key: str,
        effects: str = "database",
        queue: str | None = None,
        retry: Retry | None = None,
        on_uncertain: Probe | CallAgain | None = None,
        lease: timedelta = timedelta(seconds=60),
        dead_letter: bool = True,
        max_crashes: int = 5,
        batch: int = 1,
        bind: bool = False,
        **options: Any,
    ) -> Callable[[Callable[..., Any]], Any]:
        """Make a function (ctx, arguments...) an idempotent task; also takes all options of `app.task`.

        Args:
            key: format string over the arguments; one effect per key.
            effects: "database" (rows of our database), "external" (a call to another system) or "none".
            queue: a declared work queue; by default the topology's default queue.
            retry: attempts, delays and which exceptions are worth another attempt.
            on_uncertain: Probe or CallAgain, for external effects; without it doubt ends in `uncertain`.
            lease: how long an external execution is honoured without a heartbeat.
            dead_letter: False ends a bad task as `failed` instead of waiting for an operator as `dead`.
            max_crashes: executions that may die with their worker before the message counts as poison.
            batch: for short tasks with effects="database": up to so many (50 at most) that wait for the same process
                share a transaction, each with its own savepoint, result and failure. Within it no statement waits
                longer than 10 ms for a lock; the task is then undone, and executed again by itself, as is one that
                fails. Locks are held until the last one has ended. Give such tasks a queue of their own: a worker
                holds more messages of it, and fills its batches. By default each task commits by itself. Not for tasks
                that call a function in the database which catches errors of others' locks (`WHEN OTHERS`): in a batch
                a lock is waited for 10 ms only, and what is caught there nobody else sees.

        Raises:
            TaskDeclarationError: when the options contradict each other.
            UnknownQueue: when the queue is not declared.
        """
        declared = TaskOptions(
            key,
            effects_named(effects),
            queue,
            retry or Retry(),
            on_uncertain,
            lease,
            dead_letter,
            max_crashes,
            batch,
        )
        refuse_lossy(options)
        if queue is not None:
            self.runtime.topology.work_queue(queue)

        def decorate(function: Callable[..., Any]) -> Any:
            attributes = attributes_of(function, declared, bind=bind)
            return self.task(
                idempotent_run(function, bind=bind), bind=True, base=IdempotentTask, **attributes, **options
            )

        return decorate

    def producer_or_acquire(self, producer: Any = None) -> Any:
        """As Celery's; who wants one for more than one message has them published in windows of confirms."""
        if producer is not None or self.conf.task_always_eager:
            return super().producer_or_acquire(producer)
        return together(self.runtime)

    def send_task(
        self, name: str, args: Any = None, kwargs: Any = None, *positional: Any, **options: Any
    ) -> Any:
        """As Celery's, through the one seam of `worker.publishing`.

        Raises:
            UnknownQueue: when a queue is named that the topology does not declare.
            PublishError: when the broker does not take the message.
        """
        names = ("countdown", "eta", "task_id", "producer", "connection", "router", "result_cls", "expires")
        options.update(zip(names, positional, strict=False))
        when = due(options.pop("eta", None), options.pop("countdown", None))
        options.pop("producer", None)
        options.pop("connection", None)
        options["task_id"] = options.get("task_id") or new_task_id()
        sender = Sender(self.runtime, when)
        try:
            return super().send_task(name, args, kwargs, producer=sender, **options)
        except QueueNotFound as error:
            known = ", ".join(queue.name for queue in self.runtime.topology.queues)
            raise UnknownQueue(
                f"task {name} names a queue that the topology does not declare: {options.get('queue')}",
                hint=f"declare it, or use one of {known}",
            ) from error

    def publish_many(self, signatures: Iterable[Any]) -> list[Any]:
        """Send many signatures, each as its `apply_async` does, with pipelined confirms.

        Within a task they are sent with its commit. A doubt about one ends it: those after it are not sent.

        Args:
            signatures: `task.s(...)`, chains, groups and chords, with any options; or `error.unsent`.

        Returns:
            Their AsyncResults (of groups, GroupResults), in order, when all were taken.

        Raises:
            NotAllPublished: when not all were. It says of each what happened, and the others are on their way; what is
                not known of (PublishUnconfirmed) keeps its id when it is sent again, so that its key runs once.
        """
        return publish_many(self, signatures)

    def enqueue(self, session: Any, signature: Any, **options: Any) -> Any:
        """Send a signature if, and only if, the caller's transaction commits.

        Args:
            session: a SQLAlchemy Session or Connection (then returns the AsyncResult), or an AsyncSession or
                AsyncConnection (then returns an awaitable of it).
            signature: `task.s(...)`, a chain or a group.
            options: as for apply_async: priority, countdown, eta, expires, task_id.
        """
        from reliable_tasks.worker.enqueueing import enqueue_statements

        messages: list[Message] = []
        chords: list[NewChord] = []
        with redirect(messages.append, chords.append):
            result = signature.apply_async(**options)
        if failpoints.ACTIVE:
            around_commit(session, failpoints.reach)
        statements = [*map(insert_statement, messages), *enqueue_statements(messages)]
        statements += [statement for chord in chords for statement in chord_statements(chord)]
        pending = [execute_in(session, statement) for statement in statements[:1]]
        if pending and hasattr(pending[0], "__await__"):

            async def rest() -> Any:
                await pending[0]
                for statement in statements[1:]:
                    await execute_in(session, statement)
                return result

            return rest()
        for statement in statements[1:]:
            execute_in(session, statement)
        return result

    def queue_and_level(self, routing_key: str, priority: int | None = None) -> tuple[str, int | None]:
        """The declared queue and priority level that a routing key means, and the message's own priority.

        A broker with strict priorities has one queue for all levels: there only the message tells which it is.
        One beyond the levels, which only a foreign sender gives, means the highest.
        """
        name, level = self._levels.get(routing_key, (routing_key, priority))
        if level == 0 and priority:
            level = min(priority, self.runtime.topology.work_queue(name).levels - 1)
        return name, level


__all__ = ["ReliableCelery"]
