"""Text as Postgres can hold it: one NUL in a header must not stop a record, or the collecting of dead letters."""

import math
from typing import Any

_DEEPEST = 200
"""What is nested deeper ends the recursion, and that the process."""


def storable(text: str) -> str:
    """The text without NUL and without lone surrogates."""
    if text.isascii() and "\x00" not in text:
        return text  # as nearly all are
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def storable_json(value: Any, depth: int = 0) -> Any:
    """The same for every text in a value of lists and mappings, keys included; what JSON does not have becomes text."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return storable(bytes(value).decode("utf-8", "backslashreplace"))
    if isinstance(value, (dict, list, tuple)) and depth > _DEEPEST:
        return "..."
    if isinstance(value, dict):
        return {storable(_name(key)): storable_json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable_json(item, depth + 1) for item in value]
    return storable(str(value))


def _name(key: Any) -> str:
    return key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else str(key)
