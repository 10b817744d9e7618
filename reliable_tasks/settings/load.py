"""`load_settings`: layers of names in, one frozen `Settings` out, or every problem at once."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

from pydantic import SecretStr

from reliable_tasks import failpoints
from reliable_tasks.errors import SettingError
from reliable_tasks.settings.endpoints import Found, find_broker, find_database, management_url
from reliable_tasks.settings.layers import ENV_FILE, Problem, read_layers
from reliable_tasks.settings.reader import DEFAULT, Reader
from reliable_tasks.settings.signing import NotKeys, parse_keys
from reliable_tasks.settings.tls import broker_over_tls, database_over_tls, plaintext
from reliable_tasks.settings.tree import BrokerSettings, DatabaseSettings, Settings, SigningSettings
from reliable_tasks.settings.variables import VARIABLES

_SHORTEST_RETENTION = 3600
_MAKE_A_KEY = 'set RELIABLE_TASKS_SIGNING_KEYS_FILE; one key is: echo "2026-a:$(openssl rand -base64 32)"'


def load_settings(
    environ: Mapping[str, str] | None = None,
    *,
    env_file: Path | None = None,
    broker_url: str | None = None,
    database_url: str | None = None,
    management_url: str | None = None,
    app: str | None = None,
    topology: str | None = None,
) -> Settings:
    """Read the settings: options, then the environment, then `.env`, then defaults.

    Args:
        environ: the environment; without it the process's own, and `.env` in the working directory too.
        env_file: a file in the form of `.env`, to read beside an explicit environ.
        broker_url, database_url, management_url, app, topology: what an option says; wins over all.

    Raises:
        SettingError: naming every variable that is wrong, what it accepts and what to do.
    """
    if environ is None:
        environ, env_file = os.environ, env_file or ENV_FILE
    problems: list[Problem] = []
    reader = Reader(
        environ,
        read_layers(environ, env_file, problems),
        {
            "RELIABLE_TASKS_BROKER_URL": broker_url,
            "RELIABLE_TASKS_DATABASE_URL": database_url,
            "RELIABLE_TASKS_MANAGEMENT_URL": management_url,
            "RELIABLE_TASKS_APP": app,
            "RELIABLE_TASKS_TOPOLOGY": topology,
        },
        problems,
    )
    settings = _resolve(reader)
    if settings is None or problems:
        # whoever shows a traceback with its variables would show the passwords in these
        del environ, broker_url, database_url
        raise _setting_error(problems)
    return settings


def _resolve(reader: Reader) -> Settings | None:
    for variable in VARIABLES:
        reader.value(variable.name)
    broker, database = find_broker(reader), find_database(reader)
    if broker is None or database is None:
        return None
    management = management_url(reader, broker)
    production = reader.value("RELIABLE_TASKS_ENV") == "production"
    broker, database = _over_tls(reader, broker, database, production)
    _check_failpoint(reader)
    if production:
        _refuse_unsafe_defaults(reader, broker)
        allowed = frozenset(
            (reader.value("RELIABLE_TASKS_PLAINTEXT_HOSTS") or "").replace(" ", "").split(",")
        )
        reader.problems.extend(plaintext(broker.address, database.address, management, allowed))
    state_dir = reader.value("RELIABLE_TASKS_STATE_DIR")
    return Settings(
        broker=BrokerSettings(url=SecretStr(broker.address.text()), management_url=management),
        database=DatabaseSettings(url=SecretStr(database.address.text("postgresql+psycopg2"))),
        signing=_signing(reader),
        max_body_bytes=int(reader.value("RELIABLE_TASKS_MAX_BODY_BYTES") or 0),
        app=reader.value("RELIABLE_TASKS_APP"),
        env=cast(Literal["development", "production"], reader.value("RELIABLE_TASKS_ENV") or "development"),
        topology=reader.value("RELIABLE_TASKS_TOPOLOGY") or "topology:TOPOLOGY",
        results_expire_seconds=int(reader.value("CELERY_RESULT_EXPIRES") or 0),
        remote_control=reader.value("RELIABLE_TASKS_REMOTE_CONTROL") == "1",
        key_retention_seconds=_key_retention(reader),
        sweep_grace_seconds=int(reader.value("RELIABLE_TASKS_SWEEP_GRACE") or 0),
        state_dir=Path(state_dir) if state_dir else None,
        log_format=cast(
            Literal["console", "json", "celery"], reader.value("RELIABLE_TASKS_LOG_FORMAT") or "console"
        ),
        shown=reader.shown(),
        origins=dict(reader.origins),
    )


def _key_retention(reader: Reader) -> int:
    seconds = int(reader.value("RELIABLE_TASKS_KEY_RETENTION") or 0)
    if 0 < seconds < _SHORTEST_RETENTION:
        reader.problems.append(
            Problem(
                f"RELIABLE_TASKS_KEY_RETENTION ({reader.origins['RELIABLE_TASKS_KEY_RETENTION']}) is {seconds} s, "
                "shorter than a message may be on its way",
                f"give at least {_SHORTEST_RETENTION}, or 0 to keep keys for ever",
            )
        )
    return seconds


def _over_tls(reader: Reader, broker: Found, database: Found, production: bool) -> tuple[Found, Found]:
    ca = reader.value("RELIABLE_TASKS_TLS_CA")
    broker = Found(broker_over_tls(broker.address, ca), broker.origin)
    database = Found(database_over_tls(database.address, ca, production=production), database.origin)
    for name, found in (("RELIABLE_TASKS_BROKER_URL", broker), ("RELIABLE_TASKS_DATABASE_URL", database)):
        reader.in_effect(name, found.address.text(), reader.origins[name])
    return broker, database


def _signing(reader: Reader) -> SigningSettings:
    text, mode = reader.value("RELIABLE_TASKS_SIGNING_KEYS"), reader.value("RELIABLE_TASKS_SIGNING")
    if text is None:
        if mode in ("required", "accept-unsigned"):
            reader.problems.append(
                Problem(f"RELIABLE_TASKS_SIGNING={mode} needs keys, and there are none", _MAKE_A_KEY)
            )
        return SigningSettings()
    try:
        keys = parse_keys(text)
    except NotKeys as why:
        origin = reader.origins["RELIABLE_TASKS_SIGNING_KEYS"]
        reader.problems.append(Problem(f"RELIABLE_TASKS_SIGNING_KEYS ({origin}): {why}", _MAKE_A_KEY))
        return SigningSettings()
    in_effect = cast(Literal["required", "accept-unsigned", "off"], mode or "required")
    reader.in_effect("RELIABLE_TASKS_SIGNING", in_effect, reader.origins["RELIABLE_TASKS_SIGNING"])
    return SigningSettings(mode=in_effect, keys=keys)


def _refuse_unsafe_defaults(reader: Reader, broker: Found) -> None:
    if "guest" in (broker.address.user, broker.address.password):
        reader.problems.append(
            Problem(
                f"RELIABLE_TASKS_ENV=production refuses the broker's guest account ({broker.origin})",
                "set RABBITMQ_USER and RABBITMQ_PASSWORD_FILE, or RELIABLE_TASKS_BROKER_URL_FILE",
            )
        )
    if broker.address.path in ("", "/"):
        reader.problems.append(
            Problem(
                f"RELIABLE_TASKS_ENV=production refuses the broker's virtual host / ({broker.origin}), which every new "
                "account and program uses",
                "make one for this application (rabbitmqctl add_vhost NAME) and set RABBITMQ_VHOST",
            )
        )
    mode, keys = reader.value("RELIABLE_TASKS_SIGNING"), reader.value("RELIABLE_TASKS_SIGNING_KEYS")
    if mode == "off" or (mode is None and keys is None):
        reader.problems.append(
            Problem("RELIABLE_TASKS_ENV=production refuses to run tasks that nobody has signed", _MAKE_A_KEY)
        )
    if reader.origins["DB_NAME"] == DEFAULT:
        reader.problems.append(
            Problem(
                "RELIABLE_TASKS_ENV=production needs a database that somebody named",
                "set DB_HOST, DB_NAME, DB_USER and DB_PASSWORD_FILE, or RELIABLE_TASKS_DATABASE_URL_FILE",
            )
        )


def _check_failpoint(reader: Reader) -> None:
    text, marks = reader.value(failpoints.VARIABLE), reader.value(failpoints.MARKS_VARIABLE)
    if text is None:
        return
    if reader.value("RELIABLE_TASKS_ENV") == "production":
        reader.problems.append(
            Problem("RELIABLE_TASKS_ENV=production refuses failpoints", f"unset {failpoints.VARIABLE}")
        )
    if not reader.origins[failpoints.VARIABLE].startswith("environment"):
        reader.problems.append(
            Problem(
                f"{failpoints.VARIABLE} is given by {reader.origins[failpoints.VARIABLE]}, where it has no effect",
                "set it in the environment of the process that shall fail",
            )
        )
    if marks is not None and not Path(marks).is_dir():
        reader.problems.append(
            Problem(f"{failpoints.MARKS_VARIABLE} names {marks}, which is no folder", "make it first")
        )
    try:
        failpoints.parse(text)
    except SettingError as wrong:
        reader.problems.append(Problem(wrong.message, wrong.hint))


def _setting_error(problems: list[Problem]) -> SettingError:
    if len(problems) == 1:
        return SettingError(problems[0].message, hint=problems[0].hint)
    lines = [f"  {problem.message}; {problem.hint}" for problem in problems]
    return SettingError(
        "\n".join([f"{len(problems)} settings are wrong:", *lines]),
        hint="docs/reference/settings.md lists every name and what it accepts",
    )
