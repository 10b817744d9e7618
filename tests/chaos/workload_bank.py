"""A bank outside: logs each charge with fsync before it answers, and misbehaves as the caller's plan says.

`POST /charges/KEY` charges on every call, `PUT` once per key, `GET` says whether there is a charge. A call with an
older fence than the bank has seen for the key is refused: without that, no sender could keep a process that was
stopped before its call from making it later.
"""

import argparse
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

STALE = 412


class Charges:
    """All charges, in memory and in the log."""

    def __init__(self, log: Path) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, int] = {}
        self._fences: dict[str, int] = {}
        lines = log.read_text().splitlines() if log.exists() else []
        for number, line in enumerate(lines, 1):
            self._made.setdefault(json.loads(line)["key"], number)
        self._count = len(lines)
        self._file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def make(self, key: str, call: dict[str, Any], *, once: bool) -> tuple[int, bool]:
        """Charge; the number of the key's charge, 0 when the caller's fence is an old one; and whether it is new."""
        with self._lock:
            if not self._current(key, call["fence"]):
                return 0, False
            if once and key in self._made:
                return self._made[key], False
            line = {"at": time.time(), "key": key, "amount": call["amount"], "fence": call["fence"]}
            os.write(self._file, json.dumps(line).encode() + b"\n")
            os.fsync(self._file)
            self._count += 1
            new = key not in self._made
            return self._made.setdefault(key, self._count), new

    def of(self, key: str, fence: int) -> int | None:
        """The number of the key's charge, for an execution with this fence: older ones may not charge any more."""
        with self._lock:
            self._current(key, fence)
            return self._made.get(key)

    def _current(self, key: str, fence: int) -> bool:
        newest = self._fences[key] = max(fence, self._fences.get(key, 0))
        return fence == newest


class Answers(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    charges: Charges

    def do_POST(self) -> None:
        self._charge(once=False)

    def do_PUT(self) -> None:
        self._charge(once=True)

    def do_GET(self) -> None:
        number = self.charges.of(self._key(), int(self.headers["X-Fence"]))
        self._answer(404 if number is None else 200, str(number or "none"))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the charges are the log."""

    def _charge(self, *, once: bool) -> None:
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(call["before"])  # a bank that is slow, before it acts
        number, new = self.charges.make(self._key(), call, once=once)
        if not number:
            self._answer(STALE, "an execution with a newer fence was here")
            return
        time.sleep(call["after"] if new else 0)  # and after
        if new and call["answer"] == "drop":
            self.close_connection = True
            return
        failed = new and call["answer"] == "error"
        self._answer(500 if failed else 200, "broken" if failed else str(number))

    def _key(self) -> str:
        return unquote(self.path.removeprefix("/charges/"))

    def _answer(self, status: int, text: str) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())
        except OSError:
            self.close_connection = True  # the caller has gone


class Bank(ThreadingHTTPServer):
    """The server."""

    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    Answers.charges = Charges(options.log)
    Bank(("127.0.0.1", options.port), Answers).serve_forever()


if __name__ == "__main__":
    main()
