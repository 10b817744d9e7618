"""Passwords and keys are given to programs that talk a lot, and are then looked for wherever something may lie.

Where: all output and logs, every table, the broker and its messages, files, command lines and environments, and what
broker and database write into their own logs. As what: see `canaries`.
"""

import os
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from reliable_tasks.dev import Stack
from tests.database import Database
from tests.deployment import new_deployment
from tests.integration.security.canaries import new_key, new_password
from tests.integration.security.watching import Watched, live, secret_variables
from tests.programs import ROOT

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=["environment", "files"])
def watched(
    request: pytest.FixtureRequest,
    reliable_stack: Stack,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    """Everything has run, spoken and been collected."""
    place = tmp_path_factory.mktemp("canaries")
    around = new_deployment(reliable_stack, migrated_template, place)
    canaries = {name: new_password(name) for name in ("broker", "database", "wrong")}
    canaries |= {name: new_key(name) for name in ("key", "old key", "wrong key")}
    user, vhost = f"canary{secrets.token_hex(4)}", urlsplit(around.broker_url).path[1:]
    owner = Database(around.database_url)
    reliable_stack.create_user(user, canaries["broker"].text, vhost, ".*", ".*", ".*", tags="monitoring")
    with owner.engine.begin() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(f"CREATE ROLE {user} LOGIN SUPERUSER PASSWORD %s", (canaries["database"].text,))
    variables = secret_variables(request.param, user, around, canaries, place)
    found = Watched(reliable_stack, around, place, canaries, variables)
    try:
        live(found, owner, environ=request.param == "files")
        yield found
    finally:
        owner.rows(f"DROP ROLE {user}")
        owner.engine.dispose()
        reliable_stack.broker.management.delete_user(user)


def test_everything_has_spoken(watched: Watched) -> None:
    """Or there would be nothing to find."""
    said = b"\n".join(watched.seen.values())
    for word in (b"everything: [", b"'broker_url'", b"software -> celery", b"Fatal Python error: Aborted"):
        assert word in said, word
    if "RELIABLE_TASKS_BROKER_URL" in watched.variables:
        for word in (
            b"refused the password",
            b"password authentication failed",
            b"locals of ",
            b"error[RT101]",
        ):
            assert word in said, word
    assert len(watched.seen["table reliable_tasks.dead_letters"]) > 10_000
    assert len(watched.seen) > 40


def test_what_is_looked_for_can_be_found(watched: Watched) -> None:
    for canary in watched.canaries.values():
        for form in canary.forms():
            assert canary.found_in(b"before " + form + b" after")


def test_no_secret_is_anywhere(watched: Watched) -> None:
    found = [
        (canary.name, where)
        for where, data in watched.seen.items()
        for canary in watched.canaries.values()
        if canary.found_in(data)
    ]
    assert found == []


@pytest.mark.parametrize("text_before", ["", "u:", "us:", "user:"])
def test_a_password_is_found_in_base64_wherever_it_begins(text_before: str) -> None:
    import base64

    canary = new_password("any")
    assert canary.found_in(b"Basic " + base64.b64encode((text_before + canary.text).encode()))
    assert not canary.found_in(base64.b64encode(os.urandom(300)))


def test_the_repository_has_no_setting_with_a_password_option() -> None:
    """A secret in a command line is visible to every user of the machine: no command takes one."""
    reference = (ROOT / "docs/reference/cli.md").read_text()
    options = [line for line in reference.splitlines() if line.startswith("| `-")]
    names = [line.split("|")[1].lower() for line in options]
    assert [name for name in names if any(word in name for word in ("password", "secret", "url", "key"))] == [
        " `--key text` "
    ], "an idempotency key"
