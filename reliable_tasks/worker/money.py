"""Finds a float where the annotations promise a Decimal, at any depth: a converter would quietly accept it."""

import dataclasses
import typing
from collections.abc import Mapping
from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, Union


def float_as_decimal(value: Any, wanted: Any) -> float | None:
    """The first float in `value` that stands where `wanted` says Decimal; None when there is none."""
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is Annotated:
        return float_as_decimal(value, inner[0])
    if isinstance(value, float):
        choices = inner if origin in (Union, UnionType) else (wanted,)
        return value if Decimal in choices and float not in choices else None
    for part, kind in _parts(value, wanted, origin, inner):
        found = float_as_decimal(part, kind)
        if found is not None:
            return found
    return None


def _parts(value: Any, wanted: Any, origin: Any, inner: tuple[Any, ...]) -> list[tuple[Any, Any]]:
    if origin in (Union, UnionType):
        return [(value, kind) for kind in inner]
    if dataclasses.is_dataclass(wanted):
        given = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
        return [(given[name], kind) for name, kind in _hints(wanted).items() if name in given]
    if isinstance(value, Mapping) and len(inner) == 2:
        return [pair for key, item in value.items() for pair in ((key, inner[0]), (item, inner[1]))]
    if isinstance(value, (list, tuple, set, frozenset)) and inner:
        kinds = inner if origin is tuple and inner[-1] is not ... else [inner[0]] * len(value)
        return list(zip(value, kinds, strict=False))
    return []


def _hints(wanted: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(wanted)
    except NameError:
        return {}
