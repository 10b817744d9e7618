"""`make fuzz`: a million bent messages through the decoder; with the seed that it prints, the same again."""

import argparse
import random
import resource
import sys
import time
from collections import Counter

from tests.fuzz.decoding import take, take_content_header
from tests.fuzz.mutations import bent

_SLOW_SECONDS = 2.0
_BLOCK = 20_000


def main() -> int:
    """Exit code 1, and the seed of the one message, when anything but a call or a refusal comes out."""
    options = argparse.ArgumentParser(prog="make fuzz")
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options.add_argument("--inputs", type=int, default=1_000_000)
    chosen = options.parse_args()
    _say(f"own structured mutator, seed {chosen.seed}, {chosen.inputs:,} messages")
    ends: Counter[str] = Counter()
    began = time.monotonic()
    for number in range(chosen.inputs):
        message = bent(random.Random(f"{chosen.seed}.{number}"))
        before = time.process_time()
        try:
            call = take(*message)
            take_content_header(message[0])
        except Exception:
            _say(f"failed: --seed {chosen.seed}, message {number}: {message!r:.2000}")
            raise
        if time.process_time() - before > _SLOW_SECONDS:
            _say(f"slow: --seed {chosen.seed}, message {number}: {time.process_time() - before:.1f} s")
            return 1
        ends["taken" if call is not None else "refused"] += 1
        if (number + 1) % _BLOCK == 0:
            _progress(number + 1, chosen.inputs, began, ends)
    _progress(chosen.inputs, chosen.inputs, began, ends)
    if not ends["taken"] or not ends["refused"]:
        _say("a fuzz that is always taken, or never, has shown nothing")
        return 1
    return 0


def _progress(done: int, wanted: int, began: float, ends: Counter[str]) -> None:
    seconds = time.monotonic() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    _say(
        f"{done:>9,} of {wanted:,}  {ends['taken']:,} taken, {ends['refused']:,} refused  "
        f"{done / seconds:,.0f}/s  {memory} MiB at most"
    )


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
