"""A run's history: JSON lines that all its processes append to one file."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

HISTORY = "CHAOS_HISTORY"
"""Environment variable: the file."""


class History:
    """Appends to the file; a line is one write, so that writers do not mix and a kill tears at most the last."""

    def __init__(self, path: Path, by: str) -> None:
        self.path = path
        self._by = by
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._reading = threading.Lock()
        self._read: list[dict[str, Any]] = []
        self._offset = 0

    def say(self, op: str, **fields: Any) -> None:
        """Append one event. The kernel keeps it when the process is killed, and no run takes the power away."""
        line = json.dumps({"at": time.time(), "by": self._by, "op": op, **fields}, default=str)
        os.write(self._file, line.encode() + b"\n")

    def lines(self) -> list[dict[str, Any]]:
        """Everything that was said so far, by whomever; what was read before is not read again."""
        with self._reading:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
            # a line that is not ended yet is read when it is
            whole = new[: new.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.decode(errors="replace").splitlines():
                try:
                    self._read.append(json.loads(line))
                except ValueError:
                    continue  # torn by a kill
            return list(self._read)
