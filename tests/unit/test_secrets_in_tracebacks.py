"""A traceback that shows variables, as error trackers and debuggers make them, shows no password of ours."""

from traceback import TracebackException

import pytest

from reliable_tasks.errors import SettingError
from reliable_tasks.settings import load_settings


def test_a_traceback_that_shows_variables_shows_no_password() -> None:
    settings = load_settings(
        {},
        broker_url="amqp://user:s3cret@a:1/x;amqp://user:s3cret@b:2/x",
        database_url="postgresql://user:s3cret@h/d",
    )
    urls = (
        settings.broker.url_text(),
        settings.broker.celery_url_text(),
        settings.database.url_text(),
        settings.database.result_backend_text(),
    )
    for url in urls:
        assert "s3cret" in url
        assert "s3cret" not in repr(url)
        assert "user" in repr([url])
    wrong = {"RABBITMQ_PASSWORD": "s3cret", "RABBITMQ_PORT": "x"}
    with pytest.raises(SettingError) as raised:
        load_settings(wrong, broker_url=urls[0])
    shown = TracebackException.from_exception(raised.value, capture_locals=True)
    frames = [frame for frame in shown.stack if "/reliable_tasks/" in frame.filename]
    assert frames
    assert "s3cret" not in "".join(str(frame.locals) for frame in frames)
