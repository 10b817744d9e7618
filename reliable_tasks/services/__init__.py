"""The loops beside the workers: outbox relay, dead-letter collector and sweeper."""

from reliable_tasks.services.running import LOOPS, run

__all__ = ["LOOPS", "run"]
