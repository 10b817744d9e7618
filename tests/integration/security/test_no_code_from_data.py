"""Nothing that a message or a row holds is unpickled, imported or called, whatever it calls itself."""

import base64
import builtins
import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pika
import pytest
from celery import Celery

from reliable_tasks import ReliableCelery
from reliable_tasks.errors import ArgumentError, Undecodable
from reliable_tasks.settings import Settings
from tests.database import Database
from tests.deployment import Deployment
from tests.integration.applied_topology import TOPOLOGY
from tests.integration.security.conftest import APPLICATION
from tests.integration.security.pickles import acting_rows, pickled
from tests.integration.security.roles import Roles
from tests.waiting import wait_until

CONTENT_TYPES = (
    "application/x-python-serialize",
    "application/x-yaml",
    "application/x-msgpack",
    "application/data",  # Celery's `auth`, which names the type of its inner body itself
    "application/text",
    "text/plain",
    "APPLICATION/X-PYTHON-SERIALIZE",
    "application/json; charset=pickle",
)
ENCODINGS = ("binary", "base64", "utf-8")
YAML = b'- ["!!python/object/apply:os.mkdir", []]\n- !!python/object/apply:os.mkdir [MARK]\n- {}'


@pytest.fixture(scope="module")
def sent(running: Any, roles: Roles, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every such message, to a plain task and to one with a key: its id, and the mark that it would leave."""
    place, marks = tmp_path_factory.mktemp("marks"), {}
    with closing(pika.BlockingConnection(pika.URLParameters(roles.around.broker_url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for number, (content_type, encoding, body, headers) in enumerate(acting(place)):
            task_id, mark = f"acting{number}-{uuid4().hex[:8]}", place / f"mark{number}"
            given = {"id": task_id, "task": f"{APPLICATION}.{'note' if number % 2 else 'pay'}", **headers}
            properties = pika.BasicProperties(
                headers=given, content_type=content_type, content_encoding=encoding, delivery_mode=2
            )
            channel.basic_publish(
                "commands", "default", body.replace(b"MARK", str(mark).encode()), properties
            )
            marks[task_id] = mark
    return marks


def acting(place: Path) -> Iterator[tuple[str, str, bytes, dict[str, Any]]]:
    """Content type, encoding, body and headers; the marks are numbered as they come."""
    number = 0

    def body(protocol: int) -> bytes:
        return pickled(place / f"mark{number}", protocol)

    for content_type in CONTENT_TYPES:
        for encoding in ENCODINGS:
            yield content_type, encoding, body(4), {}
            number += 1
    for protocol in (0, 2, 5):
        yield "application/json", "utf-8", body(protocol), {}
        number += 1
    yield "application/x-python-serialize", "base64", base64.b64encode(body(4)), {}
    number += 1
    yield "application/x-yaml", "utf-8", YAML, {}
    number += 1
    for compression, pack in (("application/x-gzip", gzip.compress), ("application/x-bzip2", zlib.compress)):
        headers = {"compression": compression}
        yield "application/x-python-serialize", "binary", pack(body(4)), headers
        number += 1
        yield "application/json", "utf-8", pack(body(2)), headers
        number += 1
    yield "application/json", "utf-8", b"\x80", {"serializer": "pickle", "argsrepr": "x"}


def test_what_says_that_it_is_pickle_or_yaml_is_a_dead_letter_and_was_not_read(
    sent: dict[str, Path], database: Database, running: Any
) -> None:
    query = (
        "SELECT headers->>'id' AS id, reason, body FROM reliable_tasks.dead_letters"
        " WHERE headers->>'id' LIKE 'acting%' AND collected_at IS NOT NULL"
    )
    wait_until(lambda: len(database.rows(query)) >= len(sent), "all are dead letters", 60)
    rows = database.rows(query)
    assert {row["id"] for row in rows} == set(sent)
    assert {row["reason"] for row in rows} == {"undecodable"}
    assert [path for path in sent.values() if path.exists()] == []
    assert running.poll() is None
    ended = "SELECT DISTINCT state FROM reliable_tasks.results WHERE task_id LIKE 'acting%'"
    assert database.rows(ended) == [{"state": "dead"}]


@pytest.fixture(params=["ours", "plain", "plain-that-accepts-pickle"])
def reader(
    request: pytest.FixtureRequest, settings: Settings, fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """An application that reads results, as careless as Celery lets it be."""
    # an application tells Celery where its services are, as those of other tests have
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")}
    monkeypatch.setattr(os, "environ", inherited)
    if request.param == "ours":
        yield ReliableCelery("reader", topology=TOPOLOGY, settings=settings, set_as_current=False)
        return
    url = fresh_database.replace("postgresql+psycopg2", "reliable+postgresql")
    app = Celery("reader", backend=url, set_as_current=False)
    if request.param != "plain":
        app.conf.update(
            result_serializer="pickle", accept_content=["pickle"], result_accept_content=["pickle"]
        )
    yield app
    app.close()


@pytest.mark.parametrize("state", ["failed", "succeeded"])
def test_a_row_that_somebody_wrote_is_shown_and_not_obeyed(
    state: str, reader: Any, fresh_database: str, tmp_path: Path
) -> None:
    mark, database = tmp_path / "mark", Database(fresh_database)
    for name, row in acting_rows(mark).items():
        database.rows(
            "INSERT INTO reliable_tasks.results (id, task_id, state, result, traceback, finished_at)"
            " VALUES (gen_random_uuid(), :id, :state, :result, 'told', now())",
            id=name,
            state=state,
            result=row,
        )
    database.rows("INSERT INTO reliable_tasks.task_ids SELECT task_id, id FROM reliable_tasks.results")
    for name in acting_rows(mark):
        found = reader.AsyncResult(name)
        try:
            value = found.get(timeout=5, propagate=False)
        except Undecodable as error:
            value = error
        else:
            assert found.state == {"failed": "FAILURE", "succeeded": "SUCCESS"}[state], name
        assert state == "succeeded" or isinstance(value, Exception), name
        assert not mark.exists(), name
    assert not hasattr(builtins, "acting_module_was_imported")
    database.engine.dispose()


def test_an_application_cannot_send_pickle(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    app = ReliableCelery("sender", topology=TOPOLOGY, settings=settings, set_as_current=False)

    def task(name: str) -> Any:
        return app.task(name=name, shared=False)(print_nothing)

    with pytest.raises(ArgumentError, match="workers read JSON only"):
        task("one").apply_async((1,), serializer="pickle")
    app.conf.task_serializer = "yaml"
    with pytest.raises(ArgumentError, match="sent as yaml"):
        task("two").delay(1)


def print_nothing(number: int) -> None: ...


def test_a_worker_that_is_told_to_read_pickle_does_not_start(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "careless.py").write_text(
        "from reliable_tasks import ReliableCelery\n"
        "app = ReliableCelery('careless', topology='topology:TOPOLOGY')\n"
        "app.conf.accept_content = ['json', 'pickle']\n"
    )
    done = deployment.python(
        *("-m", "celery", "-A", "careless", "worker", "-c", "1"),
        folder=tmp_path,
        PYTHONWARNINGS="ignore",
        C_FORCE_ROOT="1",
    )
    assert done.returncode == 1
    assert "error[RT101]: Celery is told to read or write other than JSON: accept_content=" in done.stderr
