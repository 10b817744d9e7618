"""A module that nobody imports: whoever does because data names it leaves a mark."""

import builtins

builtins.acting_module_was_imported = True  # type: ignore[attr-defined]


class ItsError(Exception):
    """What data could name."""
