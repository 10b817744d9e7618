"""Consume, upsert a batch of results in one statement, commit, ack: the least that durable results can cost."""

import json
import multiprocessing
import time
from datetime import UTC, datetime
from typing import Any

import psycopg2
import psycopg2.extras

from bench import clean
from bench.addresses import addresses
from bench.depth import connection
from bench.raw import Measure
from bench.raw.messages import QUEUE, fresh_queue
from bench.raw.publishing import pipelined

COUNT = 20_000
DATABASE = "bench_raw"

_TABLE = """
CREATE TABLE results (
    task_id uuid PRIMARY KEY, name text NOT NULL, status text NOT NULL, result jsonb,
    attempts int NOT NULL DEFAULT 1, worker text, started_at timestamptz, finished_at timestamptz)
"""
_UPSERT = """
INSERT INTO results (task_id, name, status, result, worker, started_at, finished_at) VALUES %s
ON CONFLICT (task_id) DO UPDATE SET status = excluded.status, result = excluded.result,
    worker = excluded.worker, started_at = excluded.started_at, finished_at = excluded.finished_at
WHERE results.status <> 'SUCCESS'
"""


class _Upserter:
    """One process: it stops after its share of whole batches."""

    def __init__(self, batch: int) -> None:
        self._batch, self.done, self.last = batch, 0, 0.0
        self._rows: list[Any] = []
        self._amqp = connection()
        self._channel = self._amqp.channel()
        self._channel.basic_qos(0, batch * 2, False)
        self._database = psycopg2.connect(addresses().database(DATABASE))

    def work(self, share: int) -> tuple[float, float]:
        """When it began and when it ended."""
        self._channel.basic_consume(QUEUE, callback=self._came)
        start = time.perf_counter()
        while self.done < share:
            try:
                self._amqp.drain_events(timeout=2)
            except TimeoutError:
                break  # the other process has taken the rest
        self._amqp.close()
        return start, self.last

    def _came(self, message: Any) -> None:
        task, started = json.loads(message.body), datetime.now(UTC)
        account, amount = task["args"]
        result = json.dumps({"account": account, "amount": amount, "ok": True})
        row = (task["id"], task["task"], "SUCCESS", result, "w", started, datetime.now(UTC))
        self._rows.append(row)
        if len(self._rows) >= self._batch:
            self._flush(message.delivery_tag)

    def _flush(self, tag: int) -> None:
        with self._database.cursor() as cursor:
            psycopg2.extras.execute_values(cursor, _UPSERT, self._rows, page_size=len(self._rows))
        self._database.commit()
        self._channel.basic_ack(tag, multiple=True)
        self.done += len(self._rows)
        self.last = time.perf_counter()
        self._rows.clear()


def _process(batch: int, share: int, gate: Any, answers: Any) -> None:
    upserter = _Upserter(batch)
    gate.wait()
    answers.put(upserter.work(share))


def _upsert(batch: int, processes: int) -> Measure:
    def measure() -> float:
        clean.fresh_database(DATABASE)
        clean.statement(DATABASE, _TABLE)
        fresh_queue("quorum")
        pipelined(COUNT)
        clean.checkpoint()
        context = multiprocessing.get_context("fork")
        gate, answers = context.Event(), context.Queue()
        share = COUNT // processes // batch * batch
        children = [
            context.Process(target=_process, args=(batch, share, gate, answers)) for _ in range(processes)
        ]
        for child in children:
            child.start()
        time.sleep(0.3)  # until all have connected and wait: their start is not measured
        gate.set()
        spans = [answers.get(timeout=120) for _ in children]
        for child in children:
            child.join()
        database = clean.connect(DATABASE)
        cursor = database.cursor()
        cursor.execute("SELECT count(*) FROM results")
        (done,) = cursor.fetchone()
        database.close()
        return float(done / (max(last for _, last in spans) - min(start for start, _ in spans)))

    return measure


MEASURES: dict[str, Measure] = {
    f"consume + upsert, batches of {batch}, {processes} process(es)": _upsert(batch, processes)
    for processes in (1, 2)
    for batch in (10, 100, 500)
}
