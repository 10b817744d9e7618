"""The setting with the signing keys: text in, pairs of key id and secret out."""

import base64
import binascii
import re

from pydantic import SecretBytes

LEAST_BYTES = 32
"""A secret shorter than the hash is the weaker part of an HMAC (RFC 2104, section 3)."""

_KID = re.compile(r"[A-Za-z0-9_-]{1,32}")
_SEPARATOR = re.compile(r"[,\s]+")


class NotKeys(ValueError):
    """The text is no list of keys; the message says why and never contains a secret."""


def parse_keys(text: str) -> tuple[tuple[str, SecretBytes], ...]:
    """The keys of a text as "2026-a:base64,2025-b:base64"; also one a line, as a file may hold them."""
    keys: dict[str, SecretBytes] = {}
    for number, item in enumerate(filter(None, _SEPARATOR.split(text)), start=1):
        kid, colon, encoded = item.partition(":")
        if not colon or not _KID.fullmatch(kid):
            raise NotKeys(
                f"key number {number} does not begin with an id of letters, digits, - and _ and a colon"
            )
        if kid in keys:
            raise NotKeys(f"two keys have the id {kid}")
        keys[kid] = SecretBytes(_secret(kid, encoded))
    if not keys:
        raise NotKeys("there is none in it")
    return tuple(keys.items())


def _secret(kid: str, encoded: str) -> bytes:
    text = encoded.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise NotKeys(f"the secret of key {kid} is not base64") from None
    if len(secret) < LEAST_BYTES:
        raise NotKeys(f"the secret of key {kid} has {len(secret)} bytes, and needs {LEAST_BYTES}")
    return secret
