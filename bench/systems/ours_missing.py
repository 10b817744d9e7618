"""What of ours is not there yet, in words; each is measured by itself as soon as it is there."""


def processes() -> str | None:
    """Of `reliable-tasks worker --processes N`."""
    from reliable_tasks.cli.worker import worker

    if any("--processes" in parameter.opts for parameter in worker.params):
        return None
    return "`reliable-tasks worker` has no --processes yet"


def chord_by_counter() -> str | None:
    """Of chords that complete without a task that polls."""
    from celery.backends.base import BaseBackend

    from reliable_tasks.worker.backend import ReliableBackend

    own = [
        name
        for name in ("on_chord_part_return", "apply_chord")
        if _differs(name, ReliableBackend, BaseBackend)
    ]
    return None if own else "chords do not complete by a counter yet: Celery's polling task completes them"


def _differs(name: str, ours: type, theirs: type) -> bool:
    return getattr(ours, name) is not getattr(theirs, name)
