"""What the live database says about the guarantees."""

from collections.abc import Mapping
from typing import Any

from reliable_tasks.observe.checks import Check, judged, noted, told_when_unreachable
from reliable_tasks.settings import Settings
from reliable_tasks.store import measurements, migrations
from reliable_tasks.store.engine import create_engine
from reliable_tasks.store.leadership import Lead

LAG_SECONDS = 60
UPGRADE = "run `reliable-tasks db upgrade`"


def database_checks(settings: Settings) -> list[Check]:
    """URL, durability, schema and what waits in the database."""
    url = settings.database.url_text()
    found = [
        judged(
            "database URL",
            "G3 G4",
            url.startswith("postgresql+psycopg2://"),
            settings.database.url_shown(),
            "name it postgresql://...; other drivers are not tested",
        )
    ]
    engine = create_engine(url, pool_size=1)
    try:
        with told_when_unreachable(found, "database", "G1 G2 G3 G4 G5"):
            with measurements.snapshot(engine) as connection:
                server = measurements.server_settings(connection)
            found += _durable(server)
            found.append(_schema(url))
            # without the schema there is nothing to read, and the check above has said so
            if found[-1].verdict == "kept":
                with measurements.snapshot(engine) as connection:
                    found += _waiting(connection)
    finally:
        engine.dispose()
    return found


def _durable(server: Mapping[str, str]) -> list[Check]:
    on = {name: server.get(name) for name in ("fsync", "synchronous_commit", "full_page_writes")}
    asynchronous = on["synchronous_commit"] == "off"
    standbys = server["standbys"]
    names = server.get("synchronous_standby_names") or ""
    survives = "and waits for a standby" if names else "a lost disk loses what no backup has"
    return [
        judged(
            "fsync",
            "G1 G3 G4",
            on["fsync"] == "on" and on["full_page_writes"] == "on",
            f"fsync {on['fsync']}, full_page_writes {on['full_page_writes']}",
            "set both on: a power failure may otherwise corrupt or lose what was committed",
        ),
        judged(
            "synchronous_commit",
            "G1 G3 G4",
            not asynchronous,
            str(on["synchronous_commit"]),
            "set it on: a crash may otherwise lose commits whose messages are acked already",
        ),
        noted(
            "standbys",
            f"{standbys} connected, synchronous_standby_names {names or '(none)'}: {survives}",
        ),
        noted("database version", f"Postgres {server['server_version']}"),
    ]


def _schema(url: str) -> Check:
    differences = migrations.check(url)
    return judged(
        "database revision",
        "G2 G3 G4 G5",
        not differences,
        "; ".join(differences[:5]) or f"{migrations.current(url)}, as declared",
        UPGRADE,
    )


def _waiting(connection: Any) -> list[Check]:
    outbox = measurements.outbox(connection)
    relay, sweeper = (measurements.leads(connection, what) for what in (Lead.RELAY, Lead.SWEEPER))
    lapsed = measurements.lapsed_claims(connection)
    dead = measurements.open_dead_letters(connection)
    count = sum(each for _queue, _reason, each, _age in dead)
    oldest = max((age for _queue, _reason, _each, age in dead), default=0.0)
    shown = f", the oldest for {oldest:.0f} s" if dead else ""
    return [
        judged(
            "outbox",
            "G2",
            outbox["lag"] <= LAG_SECONDS,
            f"{outbox['due']:.0f} of {outbox['waiting']:.0f} due, the oldest for {outbox['lag']:.0f} s, "
            f"{outbox['refused']:.0f} refused by the broker; {'a' if relay else 'no'} relay is running",
            "start `reliable-tasks services`; its log says what the broker refuses",
        ),
        judged(
            "executions",
            "G2",
            lapsed == 0,
            f"{lapsed} lapsed over a minute ago and nobody has taken them over; "
            f"{'a' if sweeper else 'no'} sweeper is running",
            "start workers, and `reliable-tasks services`, whose sweeper sends them again",
        ),
        noted("dead letters", f"{count} open{shown}", "reliable-tasks dead-letters list" if count else ""),
    ]
