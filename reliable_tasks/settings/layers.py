"""Where a value comes from: an option, the environment, a file that NAME_FILE names, `.env`, the default."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from reliable_tasks.settings.variables import PUBLISHED, VARIABLES, Variable

ENV_FILE = Path(".env")


@dataclass(frozen=True, repr=False)
class Given:
    """A value somebody gave, and where."""

    text: str
    origin: str


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the settings."""

    message: str
    hint: str


@dataclass(frozen=True, repr=False)
class Names:
    """One layer of names and texts; empty and blank ones count as not given, as compose files produce them."""

    texts: Mapping[str, str]
    origin: str

    def find(self, variable: Variable, problems: list[Problem]) -> Given | None:
        """The value of a variable in this layer, directly or from the file that NAME_FILE names."""
        direct = self.texts.get(variable.name)
        file = self.texts.get(variable.file_name) if variable.holds_secret else None
        if direct and file:
            problems.append(
                Problem(
                    f"{variable.name} and {variable.file_name} are both given ({self.origin})",
                    f"remove one of them, better {variable.name}",
                )
            )
            return None
        if file:
            return _read_secret(variable, Path(file), problems)
        if not direct or (variable.kind != "secret" and not direct.strip()):
            return None
        return Given(direct, f"{self.origin} {variable.name}")


def read_layers(
    environ: Mapping[str, str], env_file: Path | None, problems: list[Problem]
) -> tuple[Names, Names]:
    """The environment and the `.env` file, misspelt names of ours reported."""
    in_file: dict[str, str] = {}
    if env_file is not None and env_file.is_file():
        try:
            # no interpolation: a password may contain ${
            read = dotenv_values(env_file, interpolate=False, encoding="utf-8")
            in_file = {name: text for name, text in read.items() if text is not None}
        except (OSError, UnicodeDecodeError) as error:
            problems.append(
                Problem(f"{env_file} cannot be read: {_why(error)}", "check its owner, mode and encoding")
            )
    layers = (Names(environ, "environment"), Names(in_file, str(env_file)))
    for layer in layers:
        problems.extend(_misspelt(layer))
    return layers


def _misspelt(layer: Names) -> list[Problem]:
    known = {v.name for v in VARIABLES} | {v.file_name for v in VARIABLES if v.holds_secret} | {PUBLISHED}
    prefix = "RELIABLE_TASKS_"
    suffixes = [name.removeprefix(prefix) for name in known if name.startswith(prefix)]
    found = []
    for name in sorted(set(layer.texts) - known):
        if not name.startswith(prefix):
            continue
        close = difflib.get_close_matches(name.removeprefix(prefix), suffixes, 1, cutoff=0.75)
        if close:
            found.append(
                Problem(f"{name} is not a setting ({layer.origin})", f"did you mean {prefix}{close[0]}?")
            )
    return found


def _read_secret(variable: Variable, path: Path, problems: list[Problem]) -> Given | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(
            Problem(
                f"{variable.file_name} names {path}, which cannot be read: {_why(error)}",
                f"create the file with the value of {variable.name} in it, readable by this user",
            )
        )
        return None
    text = text.rstrip("\r\n")
    if not text:
        problems.append(
            Problem(
                f"{variable.file_name} names {path}, which is empty",
                f"write the value of {variable.name} into it",
            )
        )
        return None
    return Given(text, f"file {path}")


def _why(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it is not UTF-8 text"
