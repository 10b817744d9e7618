"""docker-compose.yml without an engine: its schema, what it promises, and that its commands exist."""

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

from reliable_tasks.cli.main import COMMANDS
from reliable_tasks.settings import VARIABLES

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = ("migrate", "topology")
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def test_it_follows_the_compose_schema() -> None:
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, ROOT / "docker-compose.yml"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_bound_to_loopback(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))
    assert SERVICES[name].get("network_mode") != "host"


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ONE_SHOT])
def test_what_keeps_running_says_whether_it_is_healthy(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", ONE_SHOT)
def test_one_shots_are_waited_for_and_not_restarted(name: str) -> None:
    assert SERVICES[name].get("restart", "no") == "no"
    for other in ("worker", "services", "exporter"):
        assert SERVICES[other]["depends_on"][name] == {"condition": "service_completed_successfully"}


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_are_files(name: str) -> None:
    environment = SERVICES[name].get("environment", {})
    for variable, value in environment.items():
        if any(word in variable for word in ("PASS", "SECRET", "TOKEN", "_URL")):
            assert variable.endswith("_FILE")
            assert Path(value).parent == Path("/run/secrets")
            assert Path(value).name in SERVICES[name]["secrets"]


def test_each_secret_has_an_example_and_stays_out_of_the_repository() -> None:
    for secret in COMPOSE["secrets"].values():
        assert (ROOT / f"{secret['file']}.example").is_file()
    ignored = (ROOT / "deploy" / "secrets" / ".gitignore").read_text().splitlines()
    assert "*" in ignored
    assert "!*.example" in ignored


@pytest.mark.parametrize("name", OURS)
def test_our_containers_run_a_command_that_exists_with_options_it_has(name: str) -> None:
    program, command, *arguments = OURS[name]["command"]
    assert program == "reliable-tasks"
    found = COMMANDS[command].load(command)
    while isinstance(found, click.Group):
        found = found.commands[arguments.pop(0)]
    # parsed, not run
    found.make_context(command, list(arguments))


def test_our_containers_use_settings_that_exist() -> None:
    known = {name for each in VARIABLES for name in (each.name, each.file_name)}
    for service in OURS.values():
        assert set(service["environment"]) <= known


def test_our_containers_are_confined() -> None:
    for service in OURS.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    assert "\nUSER reliable-tasks\n" in (ROOT / "deploy" / "Dockerfile").read_text()


def test_passwords_are_made_once_and_agree(tmp_path: Path) -> None:
    script, folder = ROOT / "deploy" / "make-secrets", tmp_path / "secrets"
    subprocess.run([script, folder], check=True, capture_output=True, timeout=10)
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(made) == {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    password = made["rabbitmq_password"]
    assert len(password) == len(made["db_password"]) == 48
    assert password != made["db_password"]
    assert (
        made["rabbitmq.conf"]
        == f"default_vhost = reliable_tasks\ndefault_user = reliable_tasks\ndefault_pass = {password}\n"
    )
    again = subprocess.run([script, folder], check=False, capture_output=True, text=True, timeout=10)
    assert again.returncode == 1
    assert "nothing was changed" in again.stderr
    assert password not in again.stderr
    assert {path.name: path.read_text() for path in folder.iterdir()} == made


def _connected() -> ModuleType:
    spec = importlib.util.spec_from_file_location("connected", ROOT / "deploy" / "connected.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_health_check_sees_a_connection_and_its_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port not in set(_connected().connected_ports())
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            with accepted:
                assert port in set(_connected().connected_ports())
        assert port not in set(_connected().connected_ports())
