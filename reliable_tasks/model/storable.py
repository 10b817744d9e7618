"""Text as Postgres can hold it: one NUL in a header must not stop a record, or the collecting of dead letters."""

import math
from typing import Any


def storable(text: str) -> str:
    """The text without NUL and without lone surrogates."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def storable_json(value: Any) -> Any:
    """The same for every text in a value of lists and mappings, keys included."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {storable(str(key)): storable_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable_json(item) for item in value]
    return value
