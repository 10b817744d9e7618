"""A fault of the random tier: the certificates of broker and database run out while a worker is at work."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import trustme

from tests.chaos.random_field import WORKERS, Entry, Field
from tests.chaos.random_programs import started_anew
from tests.tls_front import Front, tls_front

NAME = "localhost"
_UNDER_WAY_SECONDS = 0.5
"""What had its connections before they were cut has begun by then."""


def _certificates_expire(field: Field) -> bool:
    """A worker speaks TLS; when it has to connect anew, it does not, until there are certificates that are valid."""
    worker, authority = field.chance.choice(WORKERS), trustme.CA()
    right = authority.issue_cert(NAME)
    now = datetime.now(UTC)
    expired = authority.issue_cert(
        NAME, not_before=now - timedelta(days=1), not_after=now - timedelta(seconds=1)
    )
    with _tls(field, worker, authority, right) as fronts:
        moment = time.time()
        if not field.wait(lambda: field.has_begun(worker, moment), 60):
            return False
        for front in fronts:
            front.show(expired)
            front.cut()
        cut = time.time() + _UNDER_WAY_SECONDS
        refused = field.wait(lambda: all(front.refused for front in fronts))
        field.hold(2.0, 4.0)
        closed = not field.has_begun(worker, cut)
        renewed = time.time()
        for front in fronts:
            front.show(right)
        back = field.wait(lambda: field.has_begun(worker, renewed), 60)
    return refused and closed and back


@contextmanager
def _tls(field: Field, worker: str, authority: trustme.CA, shown: trustme.LeafCert) -> Iterator[list[Front]]:
    """Broker and database as they are for this worker until the end of the block: behind TLS, and verified."""
    around, ca = field.run.around, field.run.folder / "authority.pem"
    authority.cert_pem.write_to_path(str(ca))
    broker, database = urlsplit(around.broker_url), urlsplit(around.database_url)
    with ExitStack() as fronts:
        to_broker = fronts.enter_context(tls_front(broker.port or 0, shown))
        to_database = fronts.enter_context(tls_front(database.port or 0, shown, postgres=True))
        verified = f"sslmode=verify-full&sslrootcert={quote(str(ca), safe='')}"
        who, owner = (part.netloc.rpartition("@")[0] for part in (broker, database))
        started_anew(
            field,
            worker,
            RELIABLE_TASKS_TLS_CA=str(ca),
            RELIABLE_TASKS_BROKER_URL=f"amqps://{who}@{NAME}:{to_broker.port}{broker.path}",
            RELIABLE_TASKS_DATABASE_URL=(
                f"{database.scheme}://{owner}@{NAME}:{to_database.port}{database.path}?{verified}"
            ),
        )
        try:
            yield [to_broker, to_database]
        finally:
            started_anew(field, worker)


CERTIFICATE = (
    Entry(
        "the certificates of broker and database expire for a worker",
        ("F38",),
        _certificates_expire,
        needs=("single",),
    ),
)
