"""The loops beside the workers: outbox relay and dead-letter collector."""

from reliable_tasks.services.running import LOOPS, run

__all__ = ["LOOPS", "run"]
