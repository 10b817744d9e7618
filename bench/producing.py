"""A producer's process: `python -m bench.producing SYSTEM WHAT FIRST COUNT`; its last line is the answer in JSON."""

import json
import subprocess
import sys
from typing import Any

from bench.system import ROOT, System, python

LIMIT_SECONDS = 300


class ProducerFailed(RuntimeError):
    """A producer has ended with an error."""


def produce(system: System, what: str, first: int, count: int) -> Any:
    """Let a child publish, fill, time calls or run a chord.

    Raises:
        ProducerFailed: with the last line of what it wrote.
    """
    ended = subprocess.run(
        python("-m", "bench.producing", system.name, what, str(first), str(count)),
        env=system.environment(),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if ended.returncode:
        raise ProducerFailed(f"{what}: {(ended.stderr.strip().splitlines() or ['no word'])[-1][:300]}")
    return json.loads(ended.stdout.strip().splitlines()[-1])


def main(name: str, what: str, first: str, count: str) -> None:
    """In the child."""
    from bench.systems import find

    answer = getattr(find(name), what)(int(first), int(count))
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
