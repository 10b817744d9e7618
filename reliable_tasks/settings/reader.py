"""Reads single variables: finds the layer, checks the text, remembers value, origin and what was wrong."""

import re
from collections.abc import Mapping

from reliable_tasks.settings.addresses import MASK, mask_url
from reliable_tasks.settings.celery_environment import explicit_broker_url, wrote_result_backend
from reliable_tasks.settings.layers import Given, Names, Problem
from reliable_tasks.settings.variables import CELERY_RESULT_BACKEND, VARIABLE_BY_NAME, VARIABLES, Variable

DEFAULT = "default"
_NOUN = {"port": "a port", "seconds": "a number of seconds", "bytes": "a size", "choice": "an accepted value"}
_COMMENT = re.compile(r"\s+#.*$")
_WHOLE = re.compile(r"\d+")


class Reader:
    """The variables' values, each checked once."""

    def __init__(
        self,
        environ: Mapping[str, str],
        layers: tuple[Names, Names],
        options: Mapping[str, str | None],
        problems: list[Problem],
    ) -> None:
        self.problems = problems
        self.origins: dict[str, str] = {}
        self.environment, self.env_file = layers
        self.explicit_broker_url = explicit_broker_url(environ)
        self._backend_is_ours = wrote_result_backend(environ)
        self._options = options
        self._values: dict[str, str | None] = {}

    def value(self, name: str) -> str | None:
        """The checked text of a variable, its default when nobody gave it or what they gave is wrong."""
        if name not in self._values:
            variable = VARIABLE_BY_NAME[name]
            given = self._find(variable)
            text = self._checked(variable, given) if given else None
            self.in_effect(
                name, variable.default if text is None else text, given.origin if given else DEFAULT
            )
        return self._values[name]

    def whole(self, name: str) -> int:
        """The value of a variable whose default is a whole number."""
        return int(self.value(name) or 0)

    def given(self, *names: str) -> list[str]:
        """The origins of those variables that somebody gave."""
        found = dict.fromkeys(names)
        for name in found:
            self.value(name)
        return [self.origins[name] for name in found if self.origins[name] != DEFAULT]

    def in_effect(self, name: str, value: str | None, origin: str) -> None:
        """Record what is in effect for a variable, also when another variable decided it."""
        self._values[name] = value
        self.origins[name] = origin

    def shown(self) -> dict[str, str | None]:
        """All values in effect, secrets masked."""
        return {variable.name: _masked(variable, self._values.get(variable.name)) for variable in VARIABLES}

    def _find(self, variable: Variable) -> Given | None:
        option = self._options.get(variable.name)
        if option is not None:
            return Given(option, f"option {variable.name.removeprefix('RELIABLE_TASKS_').lower()}")
        if variable.name == CELERY_RESULT_BACKEND and self._backend_is_ours:
            return self.env_file.find(variable, self.problems)
        return self.environment.find(variable, self.problems) or self.env_file.find(variable, self.problems)

    def _checked(self, variable: Variable, given: Given) -> str | None:
        text = given.text if variable.kind == "secret" else given.text.strip()
        if variable.kind in _NOUN:
            # env files handed to containers keep the comment behind a value
            text = _COMMENT.sub("", text)
        match variable.kind:
            case "port":
                right = bool(_WHOLE.fullmatch(text)) and 1 <= int(text) <= 65535
            case "seconds":
                right = bool(_WHOLE.fullmatch(text))
            case "bytes":
                right = bool(_WHOLE.fullmatch(text)) and int(text) > 0
            case "choice":
                right = text in variable.choices or (variable.name == CELERY_RESULT_BACKEND and "://" in text)
            case _:
                right = True
        if right:
            return text
        self.problems.append(_wrong(variable, text, given.origin))
        return None


def _wrong(variable: Variable, text: str, origin: str) -> Problem:
    where = f" ({origin})" if origin != f"environment {variable.name}" else ""
    reason = dict(variable.refused).get(text)
    if reason:
        return Problem(
            f"{variable.name}={text} is not supported by this version{where}: {reason}",
            f"set {variable.name}={variable.choices[0]}",
        )
    if variable.kind == "port" and text.startswith("tcp://"):
        hint = "Kubernetes writes this for a service of that name: set enableServiceLinks: false"
    elif variable.name == "CELERY_BROKER" and "://" in text:
        hint = "put a full URL into RELIABLE_TASKS_BROKER_URL"
    else:
        example = f", such as {variable.default}" if variable.kind == "port" else ""
        hint = f"set it to {variable.accepts}{example}"
    shown = mask_url(text) if "://" in text else text
    return Problem(f"{variable.name} is {shown!r}{where}, not {_NOUN[variable.kind]}", hint)


def _masked(variable: Variable, value: str | None) -> str | None:
    if value is None or not variable.holds_secret:
        return value
    if variable.kind == "secret":
        return MASK
    return mask_url(value) if "://" in value else value
