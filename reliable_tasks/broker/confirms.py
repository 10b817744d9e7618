"""What becomes of the messages of one channel, matched by delivery tag.

py-amqp's own confirm waits for any ack or nack, so after a timeout the late ack of one message is taken for the
confirm of the next. Here each tag is tracked.
"""

from itertools import takewhile
from typing import Any

from reliable_tasks.errors import PublishError, PublishRefused, PublishUnconfirmed, Unroutable
from reliable_tasks.model.envelope import Message

Outcomes = list[PublishError | None]
"""Of each message: None when it is confirmed."""

Sent = tuple[int, Message]
"""A message, and the place of its outcome."""

UNANSWERED = PublishUnconfirmed("nothing is known of it")
"""The outcome until there is one: nothing that is forgotten counts as confirmed."""


class Confirms:
    """Counts tags, and notes what the broker says of them."""

    def __init__(self) -> None:
        self.open: dict[int, Sent] = {}
        """What is sent and not answered yet: by tag, the place of its outcome and the message."""

        self.nacked = False
        self._outcomes: Outcomes = []
        self._tag = 0
        self._returned: set[str] = set()

    def listen(self, channel: Any) -> None:
        """Hear what the broker says on a channel in confirm mode, on which nothing was published yet."""
        channel.events["basic_ack"].add(self.acked)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)

    def begin(self, outcomes: Outcomes) -> None:
        """From now on the outcomes are written here."""
        self._outcomes = outcomes

    def sent(self, place: int, message: Message) -> None:
        """A message goes out, and has the next tag."""
        self._tag += 1
        self.open[self._tag] = (place, message)

    def give_up(self) -> list[Sent]:
        """Of what is open nobody can tell any more what became of it; returns it."""
        doubtful = list(self.open.values())
        for place, message in doubtful:
            self._outcomes[place] = PublishUnconfirmed(
                f"task {message.task_id} was sent to queue {message.queue} but not confirmed; it may have been taken"
            )
        self.open.clear()
        return doubtful

    def acked(self, tag: int, multiple: bool) -> None:
        """The broker has confirmed a tag, or all up to it; of what it had returned, that is no success."""
        for place, message in self._settled(tag, multiple):
            self._outcomes[place] = (
                Unroutable(
                    f"no queue takes task {message.task_id}",
                    hint="run `reliable-tasks topology plan`: a queue or binding is missing",
                )
                if message.task_id in self._returned
                else None
            )
        if not self.open:
            self._returned.clear()

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self.nacked = True
        for place, message in self._settled(tag, multiple):
            self._outcomes[place] = PublishRefused(
                f"the broker refused task {message.task_id}",
                hint="the queue has reached its length limit or has no leader; `reliable-tasks topology show`",
            )

    def _settled(self, tag: int, multiple: bool) -> list[Sent]:
        # tags only grow, so the dictionary has them in order
        tags = list(takewhile(tag.__ge__, self.open)) if multiple else [tag]
        return [self.open.pop(one) for one in tags if one in self.open]

    def _on_return(self, _error: Exception, _exchange: str, _routing_key: str, message: Any) -> None:
        # the return of a mandatory message comes before its ack
        self._returned.add(message.properties.get("message_id", ""))
