"""A run as one JSON object, and the same in tables for people."""

from collections.abc import Iterable, Sequence
from typing import Any

from bench.measuring import Record
from bench.ratios import BESIDE, Run, figures_of, ratios_of

Report = dict[str, Any]

COLUMNS = (
    ("publish/s", "publish_rate", "{:,.0f}"),
    ("drain/s", "rate", "{:,.0f}"),
    ("commits/task", "commits_per_task", "{:.2f}"),
    ("WAL syncs/task", "wal_syncs_per_task", "{:.2f}"),
    ("PSS MiB", "pss_mib", "{:.0f}"),
    ("worker CPU s/1k", "worker_cpu_s_per_1k", "{:.3f}"),
    ("Postgres CPU s/1k", "postgres_cpu_s_per_1k", "{:.3f}"),
    ("RabbitMQ CPU s/1k", "rabbitmq_cpu_s_per_1k", "{:.3f}"),
    ("others' cores", "others_cores", "{:.2f}"),
    ("p50 ms", "latency.p50_ms", "{:.1f}"),
    ("p99 ms", "latency.p99_ms", "{:.1f}"),
)


def report_of(records: Sequence[Record], configuration: dict[str, Any]) -> Report:
    """The object that is printed, and from which the page is written."""
    run = Run(records)
    told, beside = ratios_of(run), ratios_of(run, BESIDE)
    return {
        "ratios": {name: one.get("median") for name, one in told.items()},
        "figures": figures_of(run),
        "configuration": configuration,
        "spread": {name: one for name, one in {**told, **beside}.items() if "median" in one},
        "reasons": {name: one["reason"] for name, one in {**told, **beside}.items() if "reason" in one},
        "beside": {name: one.get("median") for name, one in beside.items()},
        "best": {task: run.best(task) for task in ("work_none", "transfer", "transfer_batched")},
        "systems": {name: _row(run, name) for name in run.names if not _raw(run, name)},
        "raw": {name: _row(run, name) for name in run.names if _raw(run, name)},
        "errors": run.errors,
    }


def _raw(run: Run, name: str) -> bool:
    return bool(run.of(name)[0].get("raw"))


def _row(run: Run, name: str) -> dict[str, Any]:
    fields = {field: run.middle(name, field) for _, field, _ in (*COLUMNS, ("", "chord_seconds", ""))}
    rates = run.values(name, "rate")
    spread = {"least": min(rates), "most": max(rates)} if rates else {}
    counted = {"rounds": len(run.of(name)), "tasks": run.middle(name, "tasks")}
    return {**counted, **{key: value for key, value in fields.items() if value is not None}, **spread}


def text_of(report: Report) -> str:
    """For people: Markdown that reads well in a terminal, too."""
    return "\n\n".join(_parts(report)) + "\n"


def _parts(report: Report) -> Iterable[str]:
    yield _ratios(report)
    yield _figures(report)
    yield _systems(report)
    if report["raw"]:
        yield _raw_table(report)
    yield from _ahead(report)
    yield from _notes(report)


def _ratios(report: Report) -> str:
    rows = []
    for name, value in {**report["ratios"], **report["beside"]}.items():
        if value is None:
            rows.append((name, "-", "", "", report["reasons"][name]))
            continue
        spread = report["spread"][name]
        rows.append(
            (
                name,
                f"{value:.3g}",
                f"{spread['least']:.3g} to {spread['most']:.3g}",
                str(spread["rounds"]),
                "",
            )
        )
    return table(("ratio", "median", "spread", "rounds", "why not"), rows)


def _figures(report: Report) -> str:
    rows = [(name, "-" if value is None else f"{value:g}") for name, value in report["figures"].items()]
    return f"Ours in its best topology, {report['best']['work_none']}:\n\n" + table(
        ("figure", "median"), rows
    )


def _systems(report: Report) -> str:
    stock = report["systems"].get("celery-stock", {}).get("rate")
    rows = []
    for name, row in report["systems"].items():
        if "rate" not in row:
            continue
        against = f"{row['rate'] / stock:.2f}" if stock else ""
        cells = [shape.format(row[field]) if field in row else "" for _, field, shape in COLUMNS]
        counted = (
            str(row["rounds"]),
            f"{row['tasks']:.0f}",
            f"{row['least']:,.0f} to {row['most']:,.0f}",
            against,
        )
        rows.append((name, *counted, *cells))
    titles = [title for title, _, _ in COLUMNS]
    return table(("configuration", "rounds", "tasks", "drain min to max", "x stock", *titles), rows)


def _raw_table(report: Report) -> str:
    rows = [
        (name, str(row["rounds"]), f"{row['rate']:,.0f}", f"{row['least']:,.0f} to {row['most']:,.0f}")
        for name, row in report["raw"].items()
    ]
    return table(("raw limit", "rounds", "median/s", "min to max"), rows)


def _ahead(report: Report) -> Iterable[str]:
    """Where a peer beats us, and what it leaves out for that, as far as it is known."""
    entries = report["configuration"]["entries"]
    for what, task in (("small tasks", "work_none"), ("transfers", "transfer")):
        mine = report["systems"].get(report["best"][task], {}).get("rate")
        if mine is None:
            continue
        faster = [
            f"- {name}: {row['rate']:,.0f}/s; {entries[name]['durability']}"
            for name, row in report["systems"].items()
            if not name.startswith("ours-")
            and ("transfer" in name) == (task == "transfer")
            and row.get("rate", 0) > mine
        ]
        yield f"Ahead of ours in {what} ({mine:,.0f}/s):\n\n" + "\n".join(faster or ["- nobody"])


def _notes(report: Report) -> Iterable[str]:
    """What is not equal, what was run how, and on what."""
    entries = report["configuration"]["entries"]
    ours = next((one["durability"] for name, one in entries.items() if name.startswith("ours-none")), "")
    yield f"Durability of all ({ours}), but:\n\n" + "\n".join(_unequal(entries, ours) or ["- nothing"])
    commands = [
        f"- {name}: {one['about']}: `{'`, `'.join(one['workers'])}`"
        + (f"; waits by {one['waiting']}" if one["waiting"] else "")
        for name, one in entries.items()
        if "workers" in one
    ]
    yield "What was run:\n\n" + "\n".join(commands)
    yield _machine(report["configuration"])
    if report["errors"]:
        yield "Not measured:\n\n" + "\n".join(
            f"- {name}: {error}" for name, error in report["errors"].items()
        )


def _unequal(entries: dict[str, Any], ours: str) -> list[str]:
    told = {name: one["durability"] for name, one in entries.items() if "durability" in one}
    return [f"- {name}: {durability}" for name, durability in told.items() if durability != ours]


def _machine(configuration: dict[str, Any]) -> str:
    machine, versions = configuration["machine"], configuration["versions"]
    load = configuration.get("load_average_after", machine["load_average"])
    return (
        f"{configuration['kind']} run of {configuration['at']}, commit {configuration['commit']}; "
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_mib']} MiB; "
        f"an fdatasync takes {machine['sync_microseconds']} us; load average {machine['load_average'][0]} before, "
        f"{load[0]} after; Postgres with "
        + ", ".join(f"{name} {value}" for name, value in configuration["postgres"].items())
        + "; "
        + ", ".join(f"{name} {value}" for name, value in versions.items())
        + "."
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
