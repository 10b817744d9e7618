"""Celery's own environment variables, which the documented names collide with.

The `celery` program takes CELERY_BROKER for its option --broker and writes it into CELERY_BROKER_URL, over
whatever was there; it takes CELERY_RESULT_BACKEND=postgres for a module of that name; and both environment
variables beat the application's configuration. So the resolved URLs are written into those two variables
before Celery looks.
"""

import hashlib
import os
from collections.abc import Mapping, MutableMapping

from reliable_tasks.settings.addresses import without_password
from reliable_tasks.settings.tree import Settings
from reliable_tasks.settings.variables import CELERY_BROKER_URL, CELERY_RESULT_BACKEND, PUBLISHED


def publish_celery_environment(
    settings: Settings, environ: MutableMapping[str, str] | None = None, *, passwords: bool = True
) -> None:
    """Write the resolved broker and result backend where Celery looks first.

    Without passwords, what a program inherits or /proc shows holds none; the application must then put them
    into its own connections, as ReliableCelery does.

    Call it when the application is made, before Celery's configuration is used. What an explicit
    `celery -b URL` said is already in the settings, so it survives. Child processes inherit the URLs, and
    PUBLISHED tells their `load_settings` that we wrote them.
    """
    target = os.environ if environ is None else environ
    for name, url in (
        (CELERY_BROKER_URL, settings.broker.celery_url_text()),
        (CELERY_RESULT_BACKEND, settings.database.result_backend_text()),
    ):
        target[name] = url if passwords else without_password(url)
    target[PUBLISHED] = f"{_digest(target[CELERY_BROKER_URL])}:{_digest(target[CELERY_RESULT_BACKEND])}"


def explicit_broker_url(environ: Mapping[str, str]) -> str | None:
    """A full URL in CELERY_BROKER_URL that a person put there: by `celery -b`, or in the environment."""
    url = environ.get(CELERY_BROKER_URL, "")
    return url if "://" in url and not _ours(environ, url) else None


def wrote_result_backend(environ: Mapping[str, str]) -> bool:
    """Whether CELERY_RESULT_BACKEND is what a parent process of ours wrote, and so no order of anybody."""
    return _ours(environ, environ.get(CELERY_RESULT_BACKEND, ""))


def _ours(environ: Mapping[str, str], url: str) -> bool:
    return _digest(url) in environ.get(PUBLISHED, "").split(":")


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]
