"""Whole transfers in the database alone: claim, balances, ledger, outbox and result in one transaction.

A tenth of them leaves an outbox row, as everywhere in this benchmark.
"""

import json
import multiprocessing
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg2

from bench import bank, clean
from bench.addresses import addresses
from bench.raw import ONE_TRANSACTION, Measure
from bench.raw.transfer_tables import BY_FUNCTION, ONE_ROW, SCHEMA

DATABASE = "bench_raw"
SECONDS = float(os.environ.get("BENCH_RAW_SECONDS", "3"))
Transfer = Callable[[Any, int], int]
"""Does some on a connection, beginning with this serial; returns how many."""

_RESULT = "INSERT INTO results VALUES (%s, 'SUCCESS', %s, now(), clock_timestamp())"


def by_statements(connection: Any, serial: int) -> int:
    """As an application would, one statement after the other, one commit."""
    source, target = bank.pair(serial)
    with connection, connection.cursor() as cursor:
        bank.by_hand(cursor, serial, source, target, 1)
        result = json.dumps({"source": source, "target": target, "amount": 1})
        cursor.execute(_RESULT, (f"transfer:{serial}", result))
    return 1


def by_function(connection: Any, serial: int) -> int:
    """One call of a function in the server."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT transfer(%s, %s, %s, 1)", (serial, *bank.pair(serial)))
    return 1


def _batch(function: str, size: int) -> Transfer:
    def transfer(connection: Any, serial: int) -> int:
        serials = range(serial, serial + size)
        sources, targets = zip(*map(bank.pair, serials), strict=True)
        with connection, connection.cursor() as cursor:
            cursor.execute(
                f"SELECT {function}(%s::bigint[], %s::int[], %s::int[], %s::bigint[])",
                (list(serials), list(sources), list(targets), [1] * size),
            )
        return size

    return transfer


def _thread(how: Transfer, number: int, gate: Any, counts: list[int]) -> None:
    connection = psycopg2.connect(addresses().database(DATABASE))
    serial = number * 1_000_000
    gate.wait()
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        serial += how(connection, serial)
    counts.append(serial - number * 1_000_000)
    connection.close()


def _process(how: Transfer, numbers: range, gate: Any, answers: Any) -> None:
    counts: list[int] = []
    threads = [threading.Thread(target=_thread, args=(how, number, gate, counts)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.put(sum(counts))


def _from_python(how: Transfer, connections: int) -> Measure:
    def measure() -> float:
        _fresh()
        context = multiprocessing.get_context("fork")
        gate, answers = context.Event(), context.Queue()
        processes = min(2, connections)
        each = connections // processes
        children = [
            context.Process(target=_process, args=(how, range(n * each, n * each + each), gate, answers))
            for n in range(processes)
        ]
        for child in children:
            child.start()
        time.sleep(0.5)  # until all have connected and wait: their start is not measured
        start = time.perf_counter()
        gate.set()
        done = sum(answers.get(timeout=120) for _ in children)
        taken = time.perf_counter() - start
        for child in children:
            child.join()
        _verify(done)
        return float(done / taken)

    return measure


def _pgbench(script: str, connections: int) -> Measure:
    def measure() -> float:
        _fresh()
        parts = urlsplit(addresses().postgres)
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script)
            file.flush()
            command = [
                "pgbench",
                "-n",
                "-M",
                "prepared",
                "-c",
                str(connections),
                "-j",
                str(min(2, connections)),
            ]
            command += ["-T", str(max(1, int(SECONDS))), "-f", file.name, "-h", str(parts.hostname)]
            command += ["-p", str(parts.port), "-U", unquote(parts.username or ""), DATABASE]
            environment = {**os.environ, "PGPASSWORD": unquote(parts.password or "")}
            ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found = re.search(r"tps = ([\d.]+)", ended.stdout)
        if not found:
            raise RuntimeError(ended.stderr[-300:])
        return float(found.group(1))

    return measure


def _fresh() -> None:
    clean.fresh_database(DATABASE)
    clean.statement(DATABASE, SCHEMA)
    clean.checkpoint()


def _verify(done: int) -> None:
    connection = clean.connect(DATABASE)
    bank.verify(connection.cursor(), done)
    connection.close()


MEASURES: dict[str, Measure] = {
    **{ONE_TRANSACTION.format(count): _from_python(by_statements, count) for count in (1, 2, 4)},
    **{
        f"transfer, one transaction, psycopg2 function, {count} connections": _from_python(by_function, count)
        for count in (1, 2, 4)
    },
    **{
        f"transfers, batches of {size}, {name}, {count} connections": _from_python(
            _batch(function, size), count
        )
        for count in (1, 2)
        for size in (10, 100)
        for function, name in (("transfer_each", "a savepoint each"), ("transfer_set", "one statement"))
    },
    **{f"commits, pgbench, one row, {count} connections": _pgbench(ONE_ROW, count) for count in (1, 8)},
    **{f"transfer, pgbench function, {count} connections": _pgbench(BY_FUNCTION, count) for count in (1, 8)},
}
