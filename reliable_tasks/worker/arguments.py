"""Arguments on their way: what travels, what comes back by the function's own annotations, and its fingerprint.

Kombu's JSON carries Decimal, date, datetime and UUID with their types. Enums and dataclasses travel as their
values and are rebuilt from the annotations of the receiving function, so that no message names a class.
"""

import dataclasses
import hashlib
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
from kombu.utils.json import JSONEncoder

from reliable_tasks.errors import ArgumentError
from reliable_tasks.worker.money import float_as_decimal

_BUILTINS = (Decimal,)
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_ATOMS = frozenset({str, int, bool, float, type(None), bytes, Decimal, date, datetime, UUID})
"""Of exactly these types nothing has to be taken apart."""

_CANONICAL = frozenset({str, int, bool, float, type(None)})
"""Of exactly these types a value is its own canonical form."""

_SORTED = JSONEncoder(sort_keys=True)


def to_wire(value: Any) -> Any:
    """The value as plain containers of types that kombu's JSON keeps."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is dict:
        return {key: item if type(item) in _ATOMS else to_wire(item) for key, item in value.items()}
    if kind is list:
        return [item if type(item) in _ATOMS else to_wire(item) for item in value]
    if isinstance(value, Enum):
        return to_wire(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_wire(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: to_wire(item) for key, item in value.items()}
    if type(value) in (tuple, set, frozenset):
        return [to_wire(item) for item in value]
    return value


class Arguments:
    """The parameters of a task function, without those that the framework fills in."""

    def __init__(self, function: Callable[..., Any], skip: int) -> None:
        signature = inspect.signature(function)
        self.signature = signature.replace(parameters=list(signature.parameters.values())[skip:])
        try:
            self._types = typing.get_type_hints(function)
        except NameError:
            self._types = {}
        self.only_names = all(
            parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            for parameter in self.signature.parameters.values()
        )
        """Whether each can be given by its name."""
        self._names = tuple(self.signature.parameters)
        self._as_they_are = {name: wanted for name, wanted in self._types.items() if _is_atom(wanted)}
        self._defaults: dict[str, Any] = {}
        for name, parameter in self.signature.parameters.items():
            if parameter.default is not inspect.Parameter.empty:
                with suppress(ArgumentError):
                    self._defaults[name] = self._convert(name, parameter.default)
        self._all_told = self.only_names and not self._defaults

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, defaults included, converted to the annotated types.

        Raises:
            ArgumentError: when one is missing, unexpected or of another type; a float never becomes a Decimal.
        """
        given = self._each_by_name(args, kwargs)
        if given is None:
            try:
                bound = self.signature.bind(*args, **kwargs)
            except TypeError as error:
                raise ArgumentError(
                    f"the arguments do not fit: {error}", hint=f"it takes {self.signature}"
                ) from error
            bound.apply_defaults()
            given = bound.arguments
        as_they_are = self._as_they_are
        return {
            name: value if type(value) is as_they_are.get(name) else self._convert(name, value)
            for name, value in given.items()
        }

    def _each_by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """What `signature.bind` would find where every argument is given; None where it is to look."""
        if not self.only_names or len(args) + len(kwargs) != len(self._names):
            return None
        if not kwargs:
            return dict(zip(self._names, args, strict=True))
        rest = self._names[len(args) :]
        if any(name not in kwargs for name in rest):
            return None
        return {**dict(zip(self._names, args, strict=False)), **{name: kwargs[name] for name in rest}}

    def told(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that are not what they are by default.

        The payload of a key is made of these: a release that gives a function one more argument, with a default, must
        not turn every message that is under way, and every copy of what was done, into a conflict.
        """
        if self._all_told:
            return dict(arguments)
        return {
            name: value for name, value in arguments.items() if not self._goes_without_saying(name, value)
        }

    def _goes_without_saying(self, name: str, value: Any) -> bool:
        if name not in self._defaults:
            return self.signature.parameters[name].kind in _REST and not value
        default = self._defaults[name]
        return type(value) is type(default) and bool(value == default)

    def _convert(self, name: str, value: Any) -> Any:
        wanted = self._types.get(name)
        if type(value) is wanted and wanted in _ATOMS:
            return value
        parameter = self.signature.parameters[name]
        if wanted is None or parameter.kind in _REST or (value is None and parameter.default is None):
            return value
        found = float_as_decimal(value, wanted)
        if found is not None:
            raise ArgumentError(
                f"argument {name} is or has the float {found!r} where a Decimal is declared",
                hint='money is never a float: pass Decimal("12.30") or the text "12.30"',
            )
        if _instance(value, wanted):
            return value
        try:
            return _converted(value, wanted)
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise ArgumentError(
                f"argument {name} is {type(value).__name__}: {error}",
                hint=f"it is declared {inspect.formatannotation(wanted)}",
            ) from error


def _is_atom(wanted: Any) -> bool:
    return isinstance(wanted, type) and wanted in _ATOMS


def _converted(value: Any, wanted: Any) -> Any:
    try:
        return msgspec.convert(value, wanted, strict=True, builtin_types=_BUILTINS)
    except msgspec.ValidationError:
        # "12.30" for a Decimal, "2026-01-31" for a date: text that says exactly one value
        return msgspec.convert(value, wanted, strict=True)


def _instance(value: Any, wanted: Any) -> bool:
    return isinstance(wanted, type) and isinstance(value, wanted)


def fingerprint(task_name: str, arguments: Mapping[str, Any]) -> bytes:
    """SHA-256 over task name and arguments in a canonical form: sorted keys, Decimals by value as text."""
    simple = _CANONICAL.issuperset(map(type, arguments.values()))
    canonical = _SORTED.encode([task_name, arguments if simple else _canonical(to_wire(dict(arguments)))])
    return hashlib.sha256(canonical.encode()).digest()


def _exactly(value: Decimal) -> str:
    """1.10 and 1.1 are the same money; `normalize` would say so, but of numbers beyond 28 digits it drops the rest."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or not any(digits):
        return str(value) if value else "0"
    kept = len(digits)
    while digits[kept - 1] == 0:
        kept -= 1
    return str(Decimal((sign, digits[:kept], exponent + len(digits) - kept)))


def _canonical(value: Any) -> Any:
    if isinstance(value, Decimal):
        return {"decimal": _exactly(value)}
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value
