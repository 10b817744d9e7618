"""Data that acts when it is read as what it says it is: each leaves a mark where somebody is careless."""

import gzip
import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any


class Acts:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self._mark),))


def pickled(mark: Path, protocol: int) -> bytes:
    """A body of protocol 2 whose arguments act."""
    return pickle.dumps([[Acts(mark)], {}, {}], protocol=protocol)


def acting_rows(mark: Path) -> dict[str, bytes]:
    """What somebody who may write to the table of results could put there."""
    payload = pickle.dumps(Acts(mark), protocol=4)

    def failure(module: str, name: str, *message: str) -> bytes:
        return json.dumps({"exc_module": module, "exc_type": name, "exc_message": message}).encode()

    return {
        "pickle-4": payload,
        "pickle-0": pickle.dumps(Acts(mark), protocol=0),
        "0x80": b"\x80",
        "0x80-and-more": b"\x80" * 100,
        "gzip": gzip.compress(payload),
        "zlib": zlib.compress(payload),
        "gzip-bomb": gzip.compress(b"0" * 50_000_000, 9),
        "os.system": failure("os", "system", f"mkdir {mark}"),
        "os.mkdir": failure("os", "mkdir", str(mark)),
        "posix.mkdir": failure("posix", "mkdir", str(mark)),
        "subprocess.Popen": failure("subprocess", "Popen", f"mkdir {mark}"),
        "builtins.exec": failure("builtins", "exec", f"import os; os.mkdir({str(mark)!r})"),
        "a-module-not-loaded": failure("tests.integration.security.acting_module", "ItsError", str(mark)),
        "an-exception-that-acts": failure("tests.integration.security.pickles", "ActsWhenMade", str(mark)),
        "SystemExit": failure("builtins", "SystemExit", "3"),
        "py/reduce": json.dumps({"py/reduce": [{"py/type": "os.mkdir"}, {"py/tuple": [str(mark)]}]}).encode(),
        "__type__": json.dumps({"__type__": "os.mkdir", "__value__": str(mark)}).encode(),
    }


class ActsWhenMade(Exception):
    """Its constructor makes a file."""

    def __init__(self, mark: str) -> None:
        os.mkdir(mark)
        super().__init__(mark)
