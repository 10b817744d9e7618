"""What is done to a running deployment: SIGKILL by recorded pid, and restarts of broker and Postgres."""

import random
import time
from collections import Counter
from collections.abc import Callable

from examples.payments.deployment import Deployment, Program
from reliable_tasks.dev import Stack
from reliable_tasks.dev.processes import end

SCRIPT = (
    "pool child",
    "relay",
    "worker",
    "collector",
    "broker",
    "pool child",
    "worker",
    "database",
    "relay",
    "pool child",
    "worker",
)
"""In this order, one while each part of the orders is under way."""

CHILD_SECONDS = 15.0


class Faults:
    """Does the faults and counts them."""

    def __init__(self, deployment: Deployment, stack: Stack, seed: int, say: Callable[[str], None]) -> None:
        self.kills: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self._deployment = deployment
        self._stack = stack
        self._chance = random.Random(f"faults {seed}")
        self._say = say

    def do(self, fault: str) -> bool:
        """Do one fault; False when this deployment has nothing of that kind."""
        match fault:
            case "pool child":
                return self._kill_pool_child()
            case "worker":
                program = self._next_worker()
            case "relay" | "collector":
                found = self._deployment.programs.get(fault)
                if found is None:
                    return False
                program = found
            case "broker":
                self._say("  restarting the broker")
                self._stack.broker.restart()
                self.restarts["broker"] += 1
                return True
            case "database":
                self._say("  restarting Postgres without a clean shutdown")
                self._stack.database.restart("immediate")
                self.restarts["database"] += 1
                return True
            case _:
                raise ValueError(fault)
        self._say(f"  kill -9 {program.name}")
        program.kill()
        self.kills[fault] += 1
        return True

    def _next_worker(self) -> Program:
        """The workers in turn: one of them is at work while the other starts."""
        workers = self._deployment.workers
        return workers[self.kills["worker"] % len(workers)]

    def _kill_pool_child(self) -> bool:
        workers = list(self._deployment.workers)
        give_up = time.monotonic() + CHILD_SECONDS
        while time.monotonic() < give_up:
            worker = self._chance.choice(workers)
            found = worker.children()
            if found:
                child = self._chance.choice(found)
                self._say(f"  kill -9 a pool process of {worker.name}")
                end(child, [])
                self.kills["pool child"] += 1
                return True
            time.sleep(0.1)  # until a worker that starts has a process to kill
        return False
