"""Every environment variable we read: one table for the loader, `config show` and the reference."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "port", "seconds", "bytes", "choice", "url", "secret"]


@dataclass(frozen=True)
class Variable:
    """One name in the environment.

    `choices` are the accepted values of a `choice`; `refused` are values that mean something to people but
    not to this version, with the reason. `holds_secret` masks the value and allows NAME_FILE beside NAME.
    """

    name: str
    kind: Kind
    default: str | None
    help: str
    choices: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    holds_secret: bool = False

    @property
    def file_name(self) -> str:
        """The variable that names a file holding this value."""
        return f"{self.name}_FILE"

    @property
    def accepts(self) -> str:
        """The accepted values, in words."""
        match self.kind:
            case "port":
                return "a whole number from 1 to 65535"
            case "seconds":
                return "a whole number of seconds, 0 for never"
            case "bytes":
                return "a whole number of bytes"
            case "choice":
                return " or ".join(self.choices)
            case "url":
                return "a full URL"
            case _:
                return "any text"


_NO_REDIS_BROKER = (
    "Redis as broker cannot confirm, dead-letter or bound redelivery, so nothing here would be kept"
)
_NO_REDIS_RESULTS = (
    "Redis as result backend forgets, and a result must be durable before its message is acked"
)

VARIABLES: tuple[Variable, ...] = (
    Variable(
        "CELERY_BROKER",
        "choice",
        "rabbitmq",
        "Which broker carries the tasks.",
        choices=("rabbitmq",),
        refused=(("redis", _NO_REDIS_BROKER),),
    ),
    Variable(
        "RABBITMQ_HOST",
        "text",
        "localhost",
        "Host of the broker; of a cluster its nodes' hosts, with commas.",
    ),
    Variable("RABBITMQ_PORT", "port", "5672", "AMQP port of the broker."),
    Variable("RABBITMQ_USER", "text", "guest", "Broker user; must be given in production."),
    Variable(
        "RABBITMQ_PASSWORD",
        "secret",
        "guest",
        "Password of the broker user; must be given in production.",
        holds_secret=True,
    ),
    Variable("RABBITMQ_VHOST", "text", "/", "Virtual host of the broker, as it is (not percent-encoded)."),
    Variable(
        "RABBITMQ_TLS",
        "choice",
        "0",
        "1: speak to the broker over TLS, on port 5671 unless RABBITMQ_PORT says otherwise; an amqps:// URL says the "
        "same. Its certificate and its name are always verified.",
        choices=("0", "1"),
    ),
    Variable(
        "RELIABLE_TASKS_BROKER_URL",
        "url",
        None,
        "amqp://user:password@host:port/vhost; overrides the RABBITMQ_* parts. For a cluster the URLs of its nodes, "
        "separated by semicolons: the first that answers is used.",
        holds_secret=True,
    ),
    Variable(
        "RELIABLE_TASKS_MANAGEMENT_URL",
        "url",
        None,
        "http(s)://host:port of RabbitMQ's management API; user and password are the broker's. "
        "Without it: the broker's host on port 15672, when the broker itself is on its standard port. "
        "For a cluster those of its nodes, separated by semicolons.",
    ),
    Variable(
        "CELERY_RESULT_BACKEND",
        "choice",
        "postgres",
        "Where results are kept: postgres, or the full URL of the same Postgres database.",
        choices=("postgres",),
        refused=(("redis", _NO_REDIS_RESULTS),),
        holds_secret=True,
    ),
    Variable(
        "CELERY_RESULT_EXPIRES", "seconds", "0", "Age at which results may be removed; 0 keeps them for ever."
    ),
    Variable("DB_HOST", "text", "localhost", "Host of Postgres, or the folder of its socket."),
    Variable("DB_PORT", "port", "5432", "Port of Postgres."),
    Variable("DB_NAME", "text", "reliable_tasks", "Database; must be given in production."),
    Variable("DB_USER", "text", "reliable_tasks", "Database user."),
    Variable("DB_PASSWORD", "secret", None, "Password of the database user.", holds_secret=True),
    Variable(
        "RELIABLE_TASKS_DATABASE_URL",
        "url",
        None,
        "postgresql://user:password@host:port/database; overrides the DB_* parts.",
        holds_secret=True,
    ),
    Variable(
        "RELIABLE_TASKS_TLS_CA",
        "text",
        None,
        "PEM file with the authorities that certificates of broker, management API and Postgres are verified by; "
        "else the system's. With it, Postgres must prove its name (sslmode=verify-full) unless its URL says otherwise.",
    ),
    Variable(
        "RELIABLE_TASKS_PLAINTEXT_HOSTS",
        "text",
        None,
        "Hosts that production may speak to without TLS, with commas between: only such as are reached by a network "
        "inside one machine, for example containers of one compose file. Loopback needs no mention.",
    ),
    Variable("REDIS_HOST", "text", None, "Read and shown; unused while this version refuses Redis."),
    Variable("REDIS_PORT", "port", None, "Read and shown; unused while this version refuses Redis."),
    Variable(
        "REDIS_PASSWORD",
        "secret",
        None,
        "Read and shown (masked); unused while this version refuses Redis.",
        holds_secret=True,
    ),
    Variable("RELIABLE_TASKS_APP", "text", None, "The Celery application, module:attribute; what -A gives."),
    Variable("RELIABLE_TASKS_TOPOLOGY", "text", "topology:TOPOLOGY", "The declared shape, module:attribute."),
    Variable(
        "RELIABLE_TASKS_ENV",
        "choice",
        "development",
        "In production, unsafe defaults are refused: the guest account, the virtual host /, a database that nobody "
        "named, and messages without signatures; and remote control is off unless RELIABLE_TASKS_REMOTE_CONTROL=1.",
        choices=("development", "production"),
    ),
    Variable(
        "RELIABLE_TASKS_SIGNING_KEYS",
        "secret",
        None,
        "kid:base64 of at least 32 bytes, several with commas between: the first signs what is sent, all verify. "
        "The same for all who send and all who execute.",
        holds_secret=True,
    ),
    Variable(
        "RELIABLE_TASKS_SIGNING",
        "choice",
        None,
        "required: a message without a right signature is a dead letter; the default when there are keys. "
        "accept-unsigned: a missing signature is accepted, a wrong one is not; for the days in which keys are "
        "introduced. off: nothing is signed or verified; the default without keys, and refused in production.",
        choices=("required", "accept-unsigned", "off"),
    ),
    Variable(
        "RELIABLE_TASKS_MAX_BODY_BYTES",
        "bytes",
        "1048576",
        "The largest body of a message: a larger one is not sent, and a dead letter when it comes.",
    ),
    Variable(
        "RELIABLE_TASKS_REMOTE_CONTROL",
        "choice",
        "0",
        "1: workers answer `celery inspect` and `celery control`. Whoever may write to the broker can then stop them; "
        "in production only this variable allows it, whatever the application says. `tasks cancel` needs none of it.",
        choices=("0", "1"),
    ),
    Variable(
        "RELIABLE_TASKS_KEY_RETENTION",
        "seconds",
        "7776000",
        "How long idempotency keys of ended tasks are kept, at least 3600; 0 keeps them for ever. A message that was "
        "sent longer ago and whose key is not known is a dead letter: longer than any message can wait in a queue.",
    ),
    Variable(
        "RELIABLE_TASKS_SWEEP_GRACE",
        "seconds",
        "60",
        "How long the lease of an external call must have been over, and seen so by the sweeper, before its message "
        "is sent again: longer than the broker takes to deliver again what a dead worker has held.",
    ),
    Variable(
        "RELIABLE_TASKS_STATE_DIR",
        "text",
        None,
        "Folder for the state of private development services; each command has its own default.",
    ),
    Variable(
        "RELIABLE_TASKS_RABBITMQ_SBIN",
        "text",
        None,
        "Folder of rabbitmq-server for private development services; else the installed one.",
    ),
    Variable(
        "RELIABLE_TASKS_POSTGRES_BIN",
        "text",
        None,
        "Folder of initdb and postgres for private development services; else the newest installed.",
    ),
    Variable(
        "RELIABLE_TASKS_LOG_FORMAT",
        "choice",
        "console",
        "How logs are written: lines for people, JSON objects, or as Celery does; both of the first two carry "
        "task_id, idempotency_key and attempt.",
        choices=("console", "json", "celery"),
    ),
    Variable(
        "RELIABLE_TASKS_FAILPOINT",
        "text",
        None,
        "For tests, never in production: where this process shall fail, as window:action[:nth], several with commas "
        "between; see [failpoints](failpoints.md).",
    ),
    Variable(
        "RELIABLE_TASKS_FAILPOINT_MARKS",
        "text",
        None,
        "For tests: a folder for a file from each failpoint that has fired; with it each fires once in all processes.",
    ),
    Variable(
        "RELIABLE_TASKS_TRACEBACK",
        "choice",
        "0",
        "1 shows tracebacks of unexpected errors.",
        choices=("0", "1"),
    ),
)

VARIABLE_BY_NAME: dict[str, Variable] = {variable.name: variable for variable in VARIABLES}

CELERY_BROKER_URL = "CELERY_BROKER_URL"
"""Celery's own variable. `celery -b URL` arrives in it, and so does a bare CELERY_BROKER."""

CELERY_RESULT_BACKEND = "CELERY_RESULT_BACKEND"
"""The document's and Celery's own at once."""

PUBLISHED = "RELIABLE_TASKS_PUBLISHED"
"""Ours: digests of the URLs we wrote into Celery's variables; a child must not take them for orders."""
