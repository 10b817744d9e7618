"""A small bank: charges on every call, idempotent or not, and misbehaves by plan. Run as a process of its own.

`POST /charges/KEY` charges, appends a line to the log before it answers, and answers with the charge's number.
`GET /charges/KEY` says whether there is one. `POST /repair` ends the planned refusals.

The plan is a JSON object, key to behaviour, for the first call with that key:
`late` answers after the client has gone, `error` answers 500 after charging, `die` exits after charging,
`blind` answers 500 after charging and 409 to every question, `closed` answers 503 until the repair.
"""

import argparse
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

LATE_SECONDS = 3.0
DIED = 70


class Charges:
    """All charges, in memory and in an append-only file of `key<TAB>number` lines."""

    def __init__(self, log: Path) -> None:
        self._lock = threading.Lock()
        self._log = log
        self._made: dict[str, list[str]] = {}
        for line in log.read_text().splitlines() if log.exists() else ():
            key, number = line.split("\t")
            self._made.setdefault(key, []).append(number)
        self._count = sum(map(len, self._made.values()))

    def make(self, key: str) -> tuple[str, bool]:
        """Charge; returns the charge's number and whether it is the key's first."""
        with self._lock:
            self._count += 1
            number = f"C{self._count:07d}"
            first = key not in self._made
            self._made.setdefault(key, []).append(number)
            with self._log.open("a") as file:
                file.write(f"{key}\t{number}\n")
        return number, first

    def of(self, key: str) -> str | None:
        """The number of the key's first charge."""
        with self._lock:
            return self._made[key][0] if key in self._made else None


class Bank(ThreadingHTTPServer):
    """The server with its charges and its plan of misbehaviour."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, charges: Charges, plan: dict[str, str], repaired: Path) -> None:
        super().__init__(("127.0.0.1", port), Answers)
        self.charges = charges
        self.plan = plan
        self.repaired = repaired


class Answers(BaseHTTPRequestHandler):
    """One request."""

    server: Bank
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Charge, or repair."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/repair":
            self.server.repaired.touch()
            self._answer(200, "repaired")
            return
        key = self._key()
        behaviour = self.server.plan.get(key)
        if behaviour == "closed" and not self.server.repaired.exists():
            self._answer(503, "closed")
            return
        number, first = self.server.charges.make(key)
        if first and behaviour == "die":
            os._exit(DIED)
        if first and behaviour == "late":
            time.sleep(LATE_SECONDS)  # so late that the caller has given up
        failed = first and behaviour in ("error", "blind")
        self._answer(500 if failed else 200, "broken" if failed else number)

    def do_GET(self) -> None:
        """Say whether there is a charge."""
        key = self._key()
        number = self.server.charges.of(key)
        if self.server.plan.get(key) == "blind":
            self._answer(409, "not known")
        elif number is None:
            self._answer(404, "no such charge")
        else:
            self._answer(200, number)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the charges are the log."""

    def _key(self) -> str:
        return unquote(self.path.removeprefix("/charges/"))

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # a late answer, and the client has gone


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="holds charges.log and plan.json")
    options = parser.parse_args()
    plan = json.loads((options.folder / "plan.json").read_text())
    charges = Charges(options.folder / "charges.log")
    Bank(options.port, charges, plan, options.folder / "repaired").serve_forever()


if __name__ == "__main__":
    main()
