"""Settings: which value wins, how URLs are made, what is refused, and that no secret is shown."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kombu import Connection
from pika import URLParameters
from sqlalchemy.engine import make_url

from reliable_tasks.errors import SettingError
from reliable_tasks.settings import load_settings

DOCUMENT = {
    "CELERY_BROKER": "rabbitmq",
    "RABBITMQ_HOST": "rabbitmq",
    "RABBITMQ_USER": "admin",
    "RABBITMQ_PASSWORD": "secure_password",
    "CELERY_RESULT_BACKEND": "postgres",
    "DB_HOST": "postgres",
    "DB_NAME": "dbrag",
    "DB_USER": "dbrag_user",
    "DB_PASSWORD": "your_password",
    "CELERY_RESULT_EXPIRES": "0",
}
BROKER = "amqp://admin:secure_password@rabbitmq:5672/%2F"
DATABASE = "postgresql+psycopg2://dbrag_user:your_password@postgres:5432/dbrag"


def test_the_documents_names_make_both_urls() -> None:
    settings = load_settings(DOCUMENT)
    assert settings.broker.url_text() == BROKER
    assert settings.database.url_text() == DATABASE
    assert settings.database.result_backend_text() == DATABASE.replace(
        "postgresql+psycopg2", "reliable+postgresql"
    )
    assert settings.results_expire_seconds == 0
    assert not settings.results_expire


def test_without_any_name_the_defaults_hold() -> None:
    settings = load_settings({})
    assert settings.broker.url_text() == "amqp://guest:guest@localhost:5672/%2F"
    assert (
        settings.database.url_text() == "postgresql+psycopg2://reliable_tasks@localhost:5432/reliable_tasks"
    )
    assert (settings.env, settings.app, settings.topology) == ("development", None, "topology:TOPOLOGY")
    assert set(settings.origins.values()) == {"default"}


@pytest.mark.parametrize(
    "given_url",
    [
        "postgresql://u:p@h:1/d",
        "postgres://u:p@h:1/d",
        "db+postgresql://u:p@h:1/d",
        "db+postgresql+psycopg2://u:p@h:1/d",
        "reliable+postgresql://u:p@h:1/d",
        "postgresql+psycopg2://u:p@h:1/d",
    ],
)
@pytest.mark.parametrize("name", ["RELIABLE_TASKS_DATABASE_URL", "CELERY_RESULT_BACKEND"])
def test_every_way_to_write_a_database_url_means_psycopg2(name: str, given_url: str) -> None:
    assert load_settings({name: given_url}).database.url_text() == "postgresql+psycopg2://u:p@h:1/d"


@pytest.mark.parametrize(
    ("given_url", "wanted"),
    [
        ("amqp://h", "amqp://guest:guest@h:5672/%2F"),
        ("amqp://h/", "amqp://guest:guest@h:5672/%2F"),
        ("amqp://h//", "amqp://guest:guest@h:5672/%2F"),
        ("amqp://u:p@h/%2F", "amqp://u:p@h:5672/%2F"),
        ("amqp://u:p@h/pay", "amqp://u:p@h:5672/pay"),
        ("amqp://u:p@h/a/b", "amqp://u:p@h:5672/a%2Fb"),
        ("pyamqp://u:p@h/v", "amqp://u:p@h:5672/v"),
        ("amqps://u:p@h/v", "amqps://u:p@h:5671/v"),
        ("amqp://u:p@[::1]:99/v", "amqp://u:p@[::1]:99/v"),
        ("amqp://u:p@h/v?heartbeat=10", "amqp://u:p@h:5672/v?heartbeat=10"),
    ],
)
def test_a_broker_url_is_completed(given_url: str, wanted: str) -> None:
    assert load_settings({"RELIABLE_TASKS_BROKER_URL": given_url}).broker.url_text() == wanted


_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs", "Cc"]), min_size=1
)


@example(user=" ", password=" ", vhost=" ")
@given(user=_TEXT, password=_TEXT, vhost=_TEXT)
def test_any_user_password_and_vhost_reach_the_clients(user: str, password: str, vhost: str) -> None:
    given_names = {"RABBITMQ_USER": user, "RABBITMQ_PASSWORD": password, "RABBITMQ_VHOST": vhost}
    shown = load_settings(given_names)
    kept = (shown.shown["RABBITMQ_USER"], password, shown.shown["RABBITMQ_VHOST"])
    pika, kombu = URLParameters(shown.broker.url_text()), Connection(shown.broker.url_text())
    assert (pika.credentials.username, pika.credentials.password, pika.virtual_host) == kept
    assert (kombu.userid, kombu.password, kombu.virtual_host) == kept


@given(user=_TEXT, password=_TEXT, name=_TEXT)
def test_any_database_user_password_and_name_reach_sqlalchemy(user: str, password: str, name: str) -> None:
    settings = load_settings({"DB_USER": user, "DB_PASSWORD": password, "DB_NAME": name})
    url = make_url(settings.database.url_text())
    assert (url.username, url.password, url.database) == (
        settings.shown["DB_USER"],
        password,
        settings.shown["DB_NAME"],
    )


def test_a_comment_behind_a_number_or_choice_is_none_of_it() -> None:
    settings = load_settings({"CELERY_RESULT_EXPIRES": "60  # an hour", "RABBITMQ_USER": "a #b"})
    assert (settings.results_expire_seconds, settings.shown["RABBITMQ_USER"]) == (60, "a #b")


def test_a_socket_folder_as_host() -> None:
    url = make_url(load_settings({"DB_HOST": "/run/postgresql", "DB_NAME": "d"}).database.url_text())
    assert (url.host, url.query["host"], url.query["port"]) == (None, "/run/postgresql", "5432")


def test_urls_override_parts_and_config_tells_the_truth() -> None:
    settings = load_settings({**DOCUMENT, "RELIABLE_TASKS_BROKER_URL": "amqp://u:p@h:7/v"})
    assert settings.broker.url_text() == "amqp://u:p@h:7/v"
    assert settings.shown["RABBITMQ_HOST"] == "h"
    assert settings.origins["RABBITMQ_HOST"] == "environment RELIABLE_TASKS_BROKER_URL"


def test_options_override_everything() -> None:
    environ = {"RELIABLE_TASKS_BROKER_URL": "amqp://env/v", "RELIABLE_TASKS_APP": "env:app"}
    settings = load_settings(environ, broker_url="amqp://u:p@option:1/v", app="option:app")
    assert settings.broker.url_text() == "amqp://u:p@option:1/v"
    assert (settings.app, settings.origins["RELIABLE_TASKS_APP"]) == ("option:app", "option app")


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("RABBITMQ_HOST=file\nDB_NAME=kept  # a comment\nDB_PASSWORD='p${x} #1'\n")
    settings = load_settings({"RABBITMQ_HOST": "env"}, env_file=file)
    assert settings.shown["RABBITMQ_HOST"] == "env"
    assert make_url(settings.database.url_text()).password == "p${x} #1"
    assert (settings.shown["DB_NAME"], settings.origins["DB_NAME"]) == ("kept", f"{file} DB_NAME")


def test_the_env_file_of_the_working_directory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("RELIABLE_TASKS_APP=bank:app\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELIABLE_TASKS_APP", raising=False)
    settings = load_settings()
    assert (settings.app, settings.origins["RELIABLE_TASKS_APP"]) == ("bank:app", ".env RELIABLE_TASKS_APP")


def test_a_secret_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" from file \n")
    settings = load_settings({"RABBITMQ_PASSWORD_FILE": str(file)})
    assert URLParameters(settings.broker.url_text()).credentials.password == " from file "
    assert settings.origins["RABBITMQ_PASSWORD"] == f"file {file}"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"CELERY_BROKER": "redis"}, ["CELERY_BROKER=redis", "not supported", "CELERY_BROKER=rabbitmq"]),
        ({"CELERY_BROKER": "kafka"}, ["CELERY_BROKER", "'kafka'", "rabbitmq"]),
        ({"CELERY_BROKER": "amqp://u:S3CRET@h"}, ["CELERY_BROKER", "RELIABLE_TASKS_BROKER_URL"]),
        (
            {"CELERY_RESULT_BACKEND": "redis"},
            ["CELERY_RESULT_BACKEND=redis", "CELERY_RESULT_BACKEND=postgres"],
        ),
        (
            {"CELERY_RESULT_BACKEND": "redis://:S3CRET@h/0"},
            ["CELERY_RESULT_BACKEND", "redis://", "postgresql://"],
        ),
        ({"CELERY_RESULT_EXPIRES": "-1"}, ["CELERY_RESULT_EXPIRES", "'-1'", "0 for never"]),
        ({"CELERY_RESULT_EXPIRES": "one day"}, ["CELERY_RESULT_EXPIRES", "'one day'"]),
        ({"RABBITMQ_PORT": "0"}, ["RABBITMQ_PORT", "1 to 65535", "5672"]),
        ({"RABBITMQ_PORT": "tcp://10.0.0.1:5672"}, ["RABBITMQ_PORT", "Kubernetes"]),
        ({"DB_PORT": "70000"}, ["DB_PORT", "1 to 65535"]),
        (
            {"DB_PASSWORD": "S3CRET", "DB_PASSWORD_FILE": "/x"},
            ["DB_PASSWORD and DB_PASSWORD_FILE are both given"],
        ),
        ({"DB_PASSWORD_FILE": "/not/there"}, ["DB_PASSWORD_FILE", "/not/there", "No such file", "create"]),
        ({"RELIABLE_TASKS_BROKER_URL": "redis://:S3CRET@h"}, ["RELIABLE_TASKS_BROKER_URL", "amqp://"]),
        (
            {"RELIABLE_TASKS_BROKER_URL": "amqp://u:S3/CRET@h"},
            ["RELIABLE_TASKS_BROKER_URL", "percent-encode"],
        ),
        ({"RELIABLE_TASKS_BROKER_URL": "amqp://u:S3#CRET@h"}, ["percent-encode"]),
        ({"RELIABLE_TASKS_BROKER_URL": "amqp://u:S3CRET@h/v#w"}, ["%23"]),
        ({"RELIABLE_TASKS_BROKER_URL": "amqp://a:S3CRET@b;amqp://c"}, ["one account and one vhost"]),
        (
            {"RELIABLE_TASKS_DATABASE_URL": "mysql://u:S3CRET@h/d"},
            ["RELIABLE_TASKS_DATABASE_URL", "mysql://"],
        ),
        ({"RELIABLE_TASKS_DATABASE_URL": "postgresql://h"}, ["names no database"]),
        (
            {"RELIABLE_TASKS_MANAGEMENT_URL": "http://u:S3CRET@h:1"},
            ["RELIABLE_TASKS_MANAGEMENT_URL", "broker's URL"],
        ),
        ({"RELIABLE_TASKS_ENV": "prod"}, ["RELIABLE_TASKS_ENV", "development or production"]),
        (
            {"RELIABLE_TASKS_BROKER": "x"},
            ["RELIABLE_TASKS_BROKER ", "did you mean RELIABLE_TASKS_BROKER_URL?"],
        ),
        ({"CELERY_BROKER_WRITE_URL": "amqp://u:S3CRET@h"}, ["CELERY_BROKER_WRITE_URL", "unset it"]),
        (
            {
                "CELERY_RESULT_BACKEND": "db+postgresql://u:S3CRET@other/d",
                "DB_HOST": "postgres",
                "DB_NAME": "d",
            },
            ["different databases", "CELERY_RESULT_BACKEND=postgres"],
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SettingError) as raised:
        load_settings(environ)
    text = str(raised.value)
    assert all(word in text for word in words), text
    assert "S3" not in text
    assert "CRET" not in text
    assert raised.value.hint
    assert "\n" not in text


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(SettingError) as raised:
        load_settings(
            {"RABBITMQ_PORT": "x", "DB_PORT": "y", "CELERY_BROKER": "redis", "RELIABLE_TASKS_ENV": "z"}
        )
    text = str(raised.value)
    assert text.startswith("4 settings are wrong:")
    assert all(name in text for name in ("RABBITMQ_PORT", "DB_PORT", "CELERY_BROKER", "RELIABLE_TASKS_ENV"))


def test_no_secret_is_shown() -> None:
    names = {
        **DOCUMENT,
        "RABBITMQ_PASSWORD": "S3CRET",
        "REDIS_PASSWORD": "S3CRET",
        "RELIABLE_TASKS_DATABASE_URL": "postgresql://u:S3CRET@h/d?sslpassword=S3CRET",
    }
    settings = load_settings(names)
    for text in (
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        f"{settings.broker!r}{settings.database}",
    ):
        assert "S3CRET" not in text
    assert "S3CRET" not in settings.broker.url_shown() + settings.database.url_shown()
    assert settings.broker.url_shown() == "amqp://admin:***@rabbitmq:5672/%2F"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).env = "production"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"RABBITMQ_HOST": "h"}, "http://h:15672"),
        ({"RELIABLE_TASKS_BROKER_URL": "amqps://h"}, "https://h:15671"),
        ({"RABBITMQ_HOST": "h,i"}, "http://h:15672;http://i:15672"),
        ({"RELIABLE_TASKS_BROKER_URL": "amqps://h;amqps://i:7"}, None),
        (
            {"RABBITMQ_HOST": "h,i", "RELIABLE_TASKS_MANAGEMENT_URL": "http://h:1/;https://i:2"},
            "http://h:1;https://i:2",
        ),
        ({"RABBITMQ_PORT": "41877"}, None),
        ({"RABBITMQ_PORT": "41877", "RELIABLE_TASKS_MANAGEMENT_URL": "http://h:1/"}, "http://h:1"),
    ],
)
def test_the_management_api_is_guessed_only_on_standard_ports(
    environ: dict[str, str], wanted: str | None
) -> None:
    assert load_settings(environ).broker.management_url == wanted


def test_a_retention_shorter_than_a_message_s_way_is_refused() -> None:
    with pytest.raises(SettingError, match="is 60 s"):
        load_settings({"RELIABLE_TASKS_KEY_RETENTION": "60"})
    assert load_settings({"RELIABLE_TASKS_KEY_RETENTION": "0"}).key_retention_seconds == 0
