"""Decides from database, broker, history and the bank's log whether a run kept its promises; knows nothing else.

    python tests/chaos/checker.py --database-url URL --broker-url URL --management-url URL \\
        --history FILE --bank-log FILE [--drain-seconds 60] [--oracle FILE]

JSON to stdout, a table for people to stderr; exit code 1 when anything is red. The history is JSON lines: what was
sent (`send`, with phase invoke, ok, fail or unknown), what operators do (`cancels`) and did (`cancel`, `replay`), what
executions saw (`begin`), what was watched (`snapshot`, `healed`, `drained`) and which faults were done
(`scheduled`, `fired`).

One file, however long: whoever doubts a verdict reads this and nothing else.
"""

import argparse
import base64
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import psycopg2
import psycopg2.extras

Row = dict[str, Any]
WAITING = ("enqueued", "running", "retry_wait")
DEAD = ("dead", "uncertain")
SHOWN = 5

TABLES = {
    "results": "SELECT * FROM reliable_tasks.results",
    "claims": "SELECT * FROM reliable_tasks.claims",
    "attempts": "SELECT * FROM reliable_tasks.attempts ORDER BY id",
    "dead": "SELECT *, headers::text || properties::text AS head FROM reliable_tasks.dead_letters ORDER BY id",
    "outbox": "SELECT task_id, last_error FROM reliable_tasks.outbox",
    "suppressed": "SELECT kind, count(*) AS number FROM reliable_tasks.suppressed_deliveries GROUP BY kind",
    "effects": "SELECT * FROM bank.effect_log",
    "accounts": "SELECT a.account_id, a.opening, a.balance, coalesce(sum(e.delta), 0) AS moved FROM bank.accounts a "
    "LEFT JOIN (SELECT source AS account_id, -amount AS delta FROM bank.effect_log "
    "UNION ALL SELECT target, amount FROM bank.effect_log) e USING (account_id) GROUP BY 1, 2, 3",
}


class Facts:
    """Everything that was read, in the shapes in which it is asked for."""

    def __init__(self, tables: dict[str, list[Row]], queues: list[Row], history: list[Row], bank: list[Row]):
        self.tables, self.queues, self.history, self.bank = tables, queues, history, bank
        self.results = {row["task_id"]: row for row in tables["results"]}
        self.claims = {(row["task_name"], row["key"]): row for row in tables["claims"]}
        self.effects = _grouped(tables["effects"], lambda row: row["key"])
        self.attempts = _grouped(tables["attempts"], lambda row: (row["name"], row["idempotency_key"]))
        self.by_task = _grouped(tables["attempts"], lambda row: row["task_id"])
        self.dead = {(row["task_id"], row["replay"]): row for row in tables["dead"]}
        self.dead_text = "\n".join(_text(row) for row in tables["dead"])
        self.poisonous = {
            (row["task_name"], row["idempotency_key"]) for row in tables["dead"] if row["reason"] == "poison"
        }
        self.sends = {line["id"]: line for line in self.said("send") if line["phase"] == "invoke"}
        answers = _grouped(self.said("send"), lambda line: line["id"])
        phases = {task_id: {line["phase"] for line in lines} for task_id, lines in answers.items()}
        # an answer of ok counts whatever came before; no answer at all is as unknown as a lost one
        self.ok = {i for i, found in phases.items() if "ok" in found}
        self.refused = {i for i, found in phases.items() if found == {"invoke", "fail"}}
        self.unknown = set(phases) - self.ok - self.refused
        self.by_key = _grouped(
            [line for line in self.sends.values() if line.get("key")], lambda line: line["key"]
        )

    def said(self, what: str) -> list[Row]:
        return [line for line in self.history if line.get("op") == what]

    def counters(self) -> dict[str, int]:
        """How often the interesting things happened."""
        kinds = Counter({row["kind"]: int(row["number"]) for row in self.tables["suppressed"]})
        return {
            "sent": len(self.sends), "ok": len(self.ok), "refused": len(self.refused),
            "unknown": len(self.unknown), "effects": len(self.tables["effects"]), "charges": len(self.bank),
            "redelivered": kinds["redelivered"], "duplicate": kinds["duplicate"], "busy": kinds["busy"],
            "conflict": kinds["conflict"], "fenced": kinds["fenced"],
            "takeover": sum(row["state"] == "lost" for row in self.tables["attempts"]),
            "retried": sum(row["next_step"] == "retry_wait" for row in self.tables["attempts"]),
            "dead": sum(row["state"] in DEAD for row in self.results.values()),
            "replayed": sum(row["state"] == "resolved" for row in self.tables["dead"]),
            "cancelled": sum(row["state"] == "cancelled" for row in self.results.values()),
        }  # fmt: skip


def no_loss(f: Facts) -> Iterator[str]:
    """C1: whatever was accepted has come to an end."""
    for task_id in sorted(f.ok):
        row, send = f.results.get(task_id), f.sends[task_id]
        if row is None and send.get("mark", task_id) not in f.dead_text:
            yield f"{task_id} was accepted and is nowhere"
    asked = {line["id"] for line in f.said("cancels")}
    for task_id, row in f.results.items():
        if row["state"] in WAITING and task_id not in f.unknown:
            yield f"{task_id} is {row['state']} after the drain"
        if row["state"] == "cancelled" and task_id not in asked:
            yield f"{task_id} is cancelled, and nobody has asked for it"
    for send in f.sends.values():
        done = (f.claims.get((send["name"], send.get("key"))) or {}).get("state") == "succeeded"
        for name, key in send.get("children", ()) if done else ():
            if (f.claims.get((name, key)) or {}).get("state") != "succeeded":
                yield f"{send['key']} has succeeded without {key}, which it sent"


def no_effect_twice(f: Facts) -> Iterator[str]:
    """C2: one effect for each key that succeeded, none for any other, nothing sent by what was undone."""
    database = {name for line in f.said("tasks") for name in line["database"]}
    for key, rows in f.effects.items():
        if len(rows) > 1:
            yield f"{key} has {len(rows)} effects"
    succeeded = {k for (name, k), row in f.claims.items() if name in database and row["state"] == "succeeded"}
    yield from (f"{key} has succeeded without its effect" for key in sorted(succeeded - set(f.effects)))
    yield from (f"{key} has an effect and no success" for key in sorted(set(f.effects) - succeeded))
    for send in f.sends.values():
        for _name, key in send.get("children", ()):
            if key in f.effects and send["key"] not in f.effects:
                yield f"{key} has an effect, but {send['key']}, which sent it, has none"


def refused_left_nothing(f: Facts) -> Iterator[str]:
    """C3: what was refused or cancelled has left nothing; what is unknown is nowhere, or has come to an end."""
    for task_id in sorted(f.refused):
        if task_id in f.results:
            yield f"{task_id} was refused and is {f.results[task_id]['state']}"
        key = f.sends[task_id].get("key")
        if key in f.effects and all(line["id"] in f.refused for line in f.by_key[key]):
            yield f"{task_id} was refused and {key} has an effect"
    for task_id in sorted(f.unknown & set(f.results)):
        if f.results[task_id]["state"] in WAITING:
            yield f"{task_id}, unknown, is {f.results[task_id]['state']} after the drain"
    for line in f.said("cancel"):
        state = (f.results.get(line["id"]) or {}).get("state")
        if line["outcome"] == "cancelled" and state != "cancelled":
            yield f"{line['id']} was cancelled, as an operator was told, and is {state}"


def money_conserved(f: Facts) -> Iterator[str]:
    """C4: no snapshot shows money made or lost, and each balance is its opening with its effects."""
    for line in f.said("snapshot"):
        if line["sum"] != line["opening"] or line["least"] < 0:
            yield f"at {line['at']}: {line['sum']} of {line['opening']}, least balance {line['least']}"
    if not f.said("snapshot"):
        yield "nobody has looked at the balances during the run"
    for row in f.tables["accounts"]:
        if row["balance"] != row["opening"] + row["moved"]:
            yield f"account {row['account_id']} has {row['balance']}, not {row['opening']} + {row['moved']}"


def results_match(f: Facts) -> Iterator[str]:
    """C5: one stored result for each success, and it says what the effect was; a duplicate has the same."""
    ends = _grouped(
        [row for row in f.results.values() if row["state"] == "succeeded" and row["idempotency_key"]],
        lambda row: (row["name"], row["idempotency_key"]),
    )
    for place, claim in f.claims.items():
        found = ends.pop(place, [])
        if claim["state"] == "succeeded" and len(found) != 1:
            yield f"{place[1]} has succeeded with {len(found)} results"
        for row in found:
            for effect in f.effects.get(place[1], ()):
                said = json.loads(bytes(row["result"] or b"null")) or {}
                if any(said.get(name) != effect[name] for name in ("amount", "source", "target")):
                    yield f"the result of {place[1]} says {said}, its effect {dict(effect)}"
                if row["task_id"] != effect["task_id"]:
                    yield f"{place[1]} is the result of {row['task_id']}, the effect of {effect['task_id']}"
    yield from (f"{place[1]} has a result and no claim" for place in ends)
    yield from _duplicates_match(f)
    yield from _effects_were_sent(f)


def _duplicates_match(f: Facts) -> Iterator[str]:
    for row in f.results.values():
        if row["state"] == "duplicate":
            first = f.results.get(row["duplicate_of"]) or {}
            if bytes(first.get("result") or b"") != bytes(row["result"] or b""):
                yield f"{row['task_id']} is a duplicate with another result than {row['duplicate_of']}"


def _effects_were_sent(f: Facts) -> Iterator[str]:
    for key, rows in f.effects.items():
        sent = {
            (line.get("amount"), line.get("source"), line.get("target")) for line in f.by_key.get(key, ())
        }
        if sent and any((row["amount"], row["source"], row["target"]) not in sent for row in rows):
            yield f"the effect of {key} is not what was sent"


def dead_letters_kept(f: Facts) -> Iterator[str]:
    """C6: the dead tasks are the open dead letters, each explained and seen in a dead-letter queue, now empty."""
    for task_id, row in f.results.items():
        letter = f.dead.get((task_id, row["replay"]))
        if row["state"] in DEAD and (letter is None or letter["state"] != "open"):
            yield f"{task_id} is {row['state']} and its dead letter {letter['state'] if letter else 'missing'}"
    for (task_id, replay), letter in f.dead.items():
        state = (f.results.get(task_id) or {}).get("state")
        if letter["state"] == "open" and state not in DEAD:
            yield f"the dead letter of {task_id}.{replay} is open, the task is {state}"
        if letter["state"] == "replaying":
            yield f"the replay of {task_id}.{replay} has no end"
        if not (letter["reason"] and letter["queue"]):
            yield f"the dead letter of {task_id} does not say why and where"
        if letter["collected_at"] is None:
            yield f"the dead letter of {task_id} ({letter['reason']}) never came through its queue"
    for send in f.sends.values():
        if send["id"] in f.ok and send.get("mark", "") not in f.dead_text:
            yield f"{send['mark']} cannot be executed, and has no dead letter"
    yield from (f"{q['name']} holds {q['messages']}" for q in f.queues if q["dead_letters"] and q["messages"])


def broker_empty(f: Facts) -> Iterator[str]:
    """C7: nothing is left to be sent, to be taken, to be answered, or stuck on its way to a dead-letter queue."""
    yield from (f"the outbox holds {row['task_id']} ({row['last_error']})" for row in f.tables["outbox"])
    for queue in f.queues:
        stuck = queue["messages"] - queue["messages_ready"] - queue["messages_unacknowledged"]
        if stuck or (queue["messages"] and not queue["dead_letters"]):
            yield f"{queue['name']} holds {queue['messages']}, {stuck} of them stuck"


def history_complete(f: Facts) -> Iterator[str]:
    """C8: the attempts of each key are numbered without gap, follow the states, and end where the key is."""
    for (name, key), rows in f.attempts.items():
        if key is None:
            continue
        claim = f.claims.get((name, key))
        state = yield from _follow(key, rows)
        if claim is None or (claim["state"] != state and (name, key) not in f.poisonous):
            yield f"{key}: its attempts end in {state}, its claim is {claim['state'] if claim else 'missing'}"
    for place, claim in f.claims.items():
        if place not in f.attempts and claim["attempts"] and place not in f.poisonous:
            yield f"{place[1]} is {claim['state']} without any attempt"
    for line in f.said("begin"):
        before = f.by_task.get(line["id"], ()) if line["retries"] else ()
        if sum(row["next_step"] == "retry_wait" for row in before) < line["retries"]:
            yield f"{line['key']}: retry {line['retries']} was sent, and not as many attempts are recorded"


def _follow(key: str, rows: list[Row]) -> Generator[str, None, str]:
    state, number, replay = "new", 0, 0
    for row in rows:
        if state in ("succeeded", "failed", "uncertain", "discarded"):
            yield f"{key}: an attempt after it was {state}"
        if state == "dead" and row["replay"] <= replay:
            yield f"{key}: an attempt after it was dead, without a replay"
        expected = 1 if state == "dead" else number + 1
        if row["attempt"] != expected:
            yield f"{key}: attempt {row['attempt']} where {expected} was due"
        state, number = row["next_step"] or "running", row["attempt"]
        replay = max(replay, row["replay"])
    return state


def external_once(f: Facts) -> Iterator[str]:
    """C9: one charge for each key at most, and only where the task says that it charged or may have."""
    claims = {key: claim for (_name, key), claim in f.claims.items()}
    for key, lines in _grouped(f.bank, lambda line: line["key"]).items():
        claim = claims.get(key)
        if len(lines) > 1:
            yield f"{key} was charged {len(lines)} times"
        if claim is None or not (claim["state"] in ("succeeded", "uncertain") or claim["may_have_acted"]):
            yield f"{key} was charged and is {claim['state'] if claim else 'unknown'}"
        sent = {line.get("amount") for line in f.by_key.get(key, ())}
        if any(line["amount"] not in sent for line in lines):
            yield f"{key} was charged {[line['amount'] for line in lines]}, sent was {sorted(sent, key=str)}"
    charged = {line["key"] for line in f.bank}
    for name in {name for line in f.said("tasks") for name in line["external"]}:
        for place, claim in f.claims.items():
            if place[0] == name and claim["state"] == "succeeded" and place[1] not in charged:
                yield f"{place[1]} has succeeded without a charge"


def ordered(f: Facts) -> Iterator[str]:
    """C10: times and fences only grow; who took over did so after the lease, and the last owner wrote the end."""
    for row in f.results.values():
        times = [
            row["enqueued_at"] if row["task_id"] in f.sends else None,
            row["started_at"],
            row["finished_at"],
        ]
        known = [moment for moment in times if moment is not None]
        if known != sorted(known):
            yield f"{row['task_id']}: enqueued, started, finished at {[str(moment) for moment in known]}"
    leases = {(line["key"], line["fence"]): line["lease_until"] for line in f.said("begin")}
    for (name, key), rows in f.attempts.items():
        fences = [row["fence"] for row in rows if row["fence"] is not None] if key is not None else []
        if fences != sorted(set(fences)):
            yield f"{key}: fences {fences}"
        claim = f.claims.get((name, key)) or {"fence": 0, "attempts": 0}
        if fences and fences[-1] != claim["fence"] and (name, key) not in f.poisonous:
            yield f"{key}: its end was written with fence {fences[-1]}, its claim has {claim['fence']}"
        if fences and rows[-1]["attempt"] != claim["attempts"] and (name, key) not in f.poisonous:
            yield f"{key}: {rows[-1]['attempt']} attempts are recorded, its claim counts {claim['attempts']}"
        for row in rows:
            until = leases.get((key, row["fence"])) if row["state"] == "lost" else None
            if until is not None and row["finished_at"].timestamp() < until:
                yield f"{key}: taken over {until - row['finished_at'].timestamp():.2f} s before its lease ended"


def recovered(f: Facts, limit: float) -> Iterator[str]:
    """C11: after everything was healed, everything came to an end in time."""
    drained = f.said("drained")
    if not drained or not drained[-1]["quiet"]:
        yield "the run did not come to rest"
    yield from (f"drained in {d['seconds']:.0f} s, not {limit:g}" for d in drained if d["seconds"] > limit)


def faults_fired(f: Facts) -> Iterator[str]:
    """C12: every scheduled fault was done, in its window, and led to what it is for."""
    fired = Counter(line["fault"] for line in f.said("fired") if line["inside"])
    for fault in sorted({line["fault"] for line in f.said("scheduled")}):
        if not fired[fault]:
            yield f"{fault} was scheduled and never fired in its window"
    counters = f.counters()
    for event in sorted({event for line in f.said("expect") for event in line["events"]}):
        if not counters[event]:
            yield f"{event} should have happened and did not"


def oracle_can_fail(lines: list[Row]) -> Iterator[str]:
    """C13: each mutant turned this checker red where expected, and the product under the same fault did not."""
    for line in lines:
        if line["expected"] not in line["red"] or line["clean"]:
            yield f"{line['mutant']}: red {line['red']}, expected {line['expected']}; product {line['clean']}"


def _grouped(rows: list[Row], of: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[of(row)].append(row)
    return dict(found)


def _text(letter: Row) -> str:
    return f"{letter['task_id']} {letter['head']} {bytes(letter['body']).decode('latin-1')}"


CHECKS: dict[str, Callable[[Facts], Iterator[str]]] = {
    "C1": no_loss,
    "C2": no_effect_twice,
    "C3": refused_left_nothing,
    "C4": money_conserved,
    "C5": results_match,
    "C6": dead_letters_kept,
    "C7": broker_empty,
    "C8": history_complete,
    "C9": external_once,
    "C10": ordered,
    "C12": faults_fired,
}


def judge(f: Facts, drain_seconds: float, oracle: list[Row] | None) -> Row:
    """The verdict: per promise what was broken, None where nobody asked; and the counters."""
    broken: dict[str, list[str] | None] = {name: list(check(f)) for name, check in CHECKS.items()}
    broken["C11"] = list(recovered(f, drain_seconds))
    broken["C13"] = None if oracle is None else list(oracle_can_fail(oracle))
    broken = dict(sorted(broken.items(), key=lambda item: int(item[0][1:])))
    red = [name for name, found in broken.items() if found]
    return {"verdict": "red" if red else "green", "red": red, "broken": broken, "counters": f.counters()}


def read(options: argparse.Namespace) -> Facts:
    """All facts; the tables in one snapshot."""
    connection = psycopg2.connect(options.database_url.replace("+psycopg2", ""))
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            tables = {}
            for name, query in TABLES.items():
                cursor.execute(query)
                tables[name] = [dict(row) for row in cursor.fetchall()]
    finally:
        connection.close()
    queues = read_queues(options.management_url, options.broker_url, options.broker_seconds)
    return Facts(tables, queues, read_lines(options.history), read_lines(options.bank_log))


def read_queues(url: str, broker_url: str, seconds: float) -> list[Row]:
    """What the queues of the vhost hold. The broker counts now and then: what is not empty is asked again."""
    address = urlsplit(broker_url)
    account = f"{unquote(address.username or '')}:{unquote(address.password or '')}".encode()
    vhost = quote(unquote(address.path[1:]), safe="")
    request = Request(
        f"{url}/api/queues/{vhost}", headers={"Authorization": "Basic " + base64.b64encode(account).decode()}
    )
    deadline = time.monotonic() + seconds
    while True:
        with build_opener(ProxyHandler({})).open(request, timeout=30) as answer:
            found: list[Row] = json.loads(answer.read())
        targets = {queue["arguments"].get("x-dead-letter-routing-key") for queue in found}
        queues = [
            {
                "name": queue["name"],
                "dead_letters": queue["name"] in targets,
                **{n: queue.get(n, 0) for n in ("messages", "messages_ready", "messages_unacknowledged")},
            }
            for queue in found
        ]
        if not any(queue["messages"] for queue in queues) or time.monotonic() > deadline:
            return queues
        time.sleep(0.5)  # until the broker has counted again


def read_lines(path: Path) -> list[Row]:
    """JSON lines; the last one of a writer that was killed in it counts for nothing."""
    found = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def table(verdict: Row) -> str:
    """The verdict for people."""
    lines = []
    for name, found in verdict["broken"].items():
        title = (oracle_can_fail if name == "C13" else recovered if name == "C11" else CHECKS[name]).__doc__
        word = "not asked" if found is None else f"RED {len(found)}" if found else "green"
        lines.append(f"{name:<4}{word:<10}{(title or '').partition(': ')[2]}")
        lines += [f"{'':14}{text}" for text in (found or [])[:SHOWN]]
    counted = ", ".join(f"{name} {number}" for name, number in verdict["counters"].items())
    return "\n".join([*lines, counted, f"verdict: {verdict['verdict']}"])


def main() -> int:
    """Read, judge, print; 1 when anything is red."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--database-url", "--broker-url", "--management-url"):
        parser.add_argument(name, required=True)
    for name in ("--history", "--bank-log"):
        parser.add_argument(name, required=True, type=Path)
    parser.add_argument("--oracle", type=Path, help="JSON lines of the mutants' runs, for C13")
    parser.add_argument("--drain-seconds", type=float, default=60, help="C11: how long a drain may take")
    parser.add_argument(
        "--broker-seconds", type=float, default=12, help="how long queues may count as not empty"
    )
    options = parser.parse_args()
    oracle = read_lines(options.oracle) if options.oracle else None
    verdict = judge(read(options), options.drain_seconds, oracle)
    sys.stdout.write(json.dumps(verdict, indent=1) + "\n")
    sys.stderr.write(table(verdict) + "\n")
    return 1 if verdict["red"] else 0


if __name__ == "__main__":
    sys.exit(main())
