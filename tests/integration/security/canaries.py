"""Secrets that can be found again: in whatever form somebody might have written them down."""

import base64
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus


@dataclass(frozen=True)
class Canary:
    """One secret: what it is, and its text."""

    name: str
    text: str

    def forms(self) -> Iterator[bytes]:
        """Its text as it is and as URLs, JSON, hexadecimal and Base64 write it."""
        raw = self.text.encode()
        yield raw
        yield quote(self.text, safe="").encode()
        yield quote(self.text).encode()
        yield quote_plus(self.text).encode()
        yield json.dumps(self.text)[1:-1].encode()
        yield raw.hex().encode()
        yield from _in_base64(raw)

    def found_in(self, data: bytes) -> bool:
        return any(form in data for form in self.forms())


class Key(Canary):
    """A signing key: its text in the setting is Base64 already, so the bytes themselves are looked for as well."""

    def forms(self) -> Iterator[bytes]:
        yield from super().forms()
        secret = base64.b64decode(self.text)
        yield secret
        yield repr(secret)[2:-1].encode()
        yield secret.hex().encode()


def new_password(name: str) -> Canary:
    """One that looks different in a URL."""
    return Canary(name, f"c4n/{secrets.token_hex(8)}+@%&:")


def new_key(name: str) -> Key:
    return Key(name, base64.b64encode(secrets.token_bytes(32)).decode())


def _in_base64(raw: bytes) -> Iterator[bytes]:
    """What of it is the same wherever it begins in a longer text, as in `user:password`."""
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + raw)
        start = (before * 8 + 5) // 6
        end = len(base64.b64encode(b"x" * before + raw).rstrip(b"=")) - 1
        yield encoded[start:end]
        yield encoded[start:end].translate(bytes.maketrans(b"+/", b"-_"))
