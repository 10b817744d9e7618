"""What commands share: the options that decide the settings, the application, and who is acting."""

import functools
import os
import pwd
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

import click

from reliable_tasks.errors import ReliableTasksError, SettingError
from reliable_tasks.settings import Settings, load_settings

Command = TypeVar("Command", bound=Callable[..., Any])

APP_OPTION_HELP = "The Celery application; also RELIABLE_TASKS_APP."
_HINT = "name it with -A module:app or in RELIABLE_TASKS_APP"
_APP = "reliable_tasks.app"


def settings_options(*, topology: bool = False) -> Callable[[Command], Command]:
    """Give a command `-A/--app` (and `--topology`) and the parameter `settings: Settings` made from them.

    There is no option for URLs: a secret in argv is visible to every user of the machine.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_settings(*args: Any, app: str | None, **kwargs: Any) -> Any:
            ctx = click.get_current_context()
            shape = kwargs.pop("topology_name", None)
            settings = load_settings(app=app or ctx.meta.get(_APP), topology=shape)
            return command(*args, settings=settings, **kwargs)

        decorated: Any = with_settings
        if topology:
            decorated = click.option(
                "--topology",
                "topology_name",
                metavar="MODULE:ATTRIBUTE",
                help="The declared shape; also RELIABLE_TASKS_TOPOLOGY.",
            )(decorated)
        option: Callable[[Any], Any] = click.option(
            "-A", "--app", "app", default=None, metavar="MODULE:APP", help=APP_OPTION_HELP
        )
        chosen: Command = option(decorated)
        return chosen

    return decorate


def remember_app(ctx: click.Context, app: str | None) -> None:
    """Keep what -A before the command said."""
    if app is not None:
        ctx.meta[_APP] = app


def load_app(settings: Settings) -> Any:
    """The Celery application that the settings name, else the one that `celery -A app reliable` loaded.

    Raises:
        SettingError: when there is no name, no such module, no such attribute, or the import fails.
    """
    if settings.app is None:
        mounted = _mounted_app()
        if mounted is None:
            raise SettingError("no application is named", hint=_HINT)
        return mounted
    module_name, _, attribute = settings.app.partition(":")
    module = import_named(module_name, settings.app)
    for name in (attribute,) if attribute else ("app", "celery"):
        if hasattr(module, name):
            return getattr(module, name)
    wanted = f"attribute {attribute}" if attribute else "app or celery"
    raise SettingError(f"the module {module_name} has no {wanted}", hint=_HINT)


def is_app_known(settings: Settings) -> bool:
    """Whether `load_app` has a name or a mounted application to load."""
    return settings.app is not None or _mounted_app() is not None


def import_named(module_name: str, name: str) -> ModuleType:
    """Import a module that a person named, with the working directory first on the path.

    Raises:
        SettingError: when it is not there or its import fails.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return import_module(module_name)
    except ReliableTasksError:
        raise
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise SettingError(
                f"{name} cannot be loaded: there is no module {error.name} in {os.getcwd()} or on the path",
                hint=f"start in its folder, or {_HINT}",
            ) from error
        raise _import_failed(name, error) from error
    except Exception as error:
        raise _import_failed(name, error) from error


def audit_actor() -> str:
    """Who acts, for the audit: the operating system's user, marked as not verified by any sign-in."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return f"{name} (unverified)"


def _mounted_app() -> Any:
    root = click.get_current_context().find_root()
    return getattr(root.obj, "app", None)


def _import_failed(name: str, error: Exception) -> SettingError:
    if os.environ.get("RELIABLE_TASKS_TRACEBACK") == "1":
        raise error
    return SettingError(
        f"{name} cannot be loaded: {type(error).__name__}: {str(error).partition(chr(10))[0]}",
        hint="RELIABLE_TASKS_TRACEBACK=1 shows where",
    )
