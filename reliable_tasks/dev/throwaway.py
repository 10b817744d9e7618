"""Stacks for one process, as tests need them: gone with it, at the latest when the next one starts."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reliable_tasks.dev.places import new_throwaway_folder, throwaway_folders
from reliable_tasks.dev.stack import Stack
from reliable_tasks.errors import ServiceStartError


@contextmanager
def throwaway_stack(*, fsync: bool = False) -> Iterator[Stack]:
    """A stack in a temporary folder that ends with the block.

    Args:
        fsync: True when a test is about data that survives a crash of the machine.
    """
    clean_abandoned()
    stack = Stack.up(new_throwaway_folder(), fsync=fsync, ephemeral=True)
    try:
        yield stack
    finally:
        stack.down()


def clean_abandoned() -> int:
    """End and remove the throw-away stacks of processes that died; returns how many there were."""
    count = 0
    for folder in throwaway_folders():
        # one that cannot be read must not keep new ones from starting
        with suppress(ServiceStartError):
            stack = Stack.find(folder)
            if stack is not None and stack.abandoned:
                stack.down()
                count += 1
    return count
