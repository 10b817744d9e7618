"""The settings as the rest of the program sees them: frozen, checked, secrets masked."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr

from reliable_tasks.settings.addresses import SecretUrl, mask_url, parse_broker
from reliable_tasks.settings.tls import CA_PARAMETER


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BrokerSettings(_Frozen):
    """Where the broker is. `url` hides itself; ask `url_text()` for the real one."""

    url: SecretStr
    management_url: str | None = None

    def url_text(self) -> str:
        """amqp://user:password@host:port/vhost, percent-encoded."""
        return SecretUrl(self.url.get_secret_value())

    def celery_url_text(self) -> str:
        """The same without the parameter that only we understand."""
        address = parse_broker(self.url_text())
        return replace(address, query=tuple(part for part in address.query if part[0] != CA_PARAMETER)).text()

    def url_shown(self) -> str:
        """The URL without its password, for messages."""
        return mask_url(self.url_text())


class DatabaseSettings(_Frozen):
    """Where Postgres is. `url` hides itself; ask `url_text()` for the real one."""

    url: SecretStr

    def url_text(self) -> str:
        """postgresql+psycopg2://user:password@host:port/database, percent-encoded."""
        return SecretUrl(self.url.get_secret_value())

    def url_shown(self) -> str:
        """The URL without its password, for messages."""
        return mask_url(self.url_text())

    def result_backend_text(self) -> str:
        """The same database as Celery's `result_backend`: reliable+postgresql://..."""
        return SecretUrl("reliable+postgresql://" + self.url_text().partition("://")[2])


class SigningSettings(_Frozen):
    """Whether messages are signed, and with which keys; the first one signs."""

    mode: Literal["required", "accept-unsigned", "off"] = "off"
    keys: tuple[tuple[str, SecretBytes], ...] = ()


class Settings(_Frozen):
    """Everything that is configured outside the code, read once by `load_settings`."""

    broker: BrokerSettings
    database: DatabaseSettings
    signing: SigningSettings = SigningSettings()
    max_body_bytes: int = 1024 * 1024
    app: str | None = None
    env: Literal["development", "production"] = "development"
    topology: str = "topology:TOPOLOGY"
    results_expire_seconds: int = 0
    remote_control: bool = False
    sweep_grace_seconds: int = 60
    key_retention_seconds: int = 90 * 24 * 3600
    """How long keys of ended tasks are kept; 0 is for ever."""
    state_dir: Path | None = None
    log_format: Literal["console", "json", "celery"] = "console"
    shown: dict[str, str | None] = {}
    """The value in effect of every variable, parts of URLs included, with secrets masked."""
    origins: dict[str, str] = {}
    """Where each of them came from: default, environment NAME, file PATH, .env NAME, option NAME."""

    @property
    def results_expire(self) -> bool:
        """Whether results may ever be removed for their age."""
        return self.results_expire_seconds > 0
