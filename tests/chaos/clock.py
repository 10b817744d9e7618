"""A machine whose clock is wrong: every time of day that the product reads in this process is off by some seconds."""

import os
import sys
from datetime import datetime, timedelta, tzinfo

CLOCK = "CHAOS_CLOCK"
"""Environment variable: seconds that the clock is ahead, or behind when negative."""


def put_off() -> None:
    """Give all loaded modules of the product the wrong clock, when the environment says so."""
    seconds = os.environ.get(CLOCK)
    if not seconds:
        return
    wrong = wrong_by(timedelta(seconds=float(seconds)))
    for name, module in list(sys.modules.items()):
        if name.startswith("reliable_tasks.") and getattr(module, "datetime", None) is datetime:
            module.datetime = wrong  # type: ignore[attr-defined]


def wrong_by(off: timedelta) -> type[datetime]:
    """A datetime class whose `now` is off."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # a plain one, as anybody's
            return datetime.now(tz) + off

    return Wrong
