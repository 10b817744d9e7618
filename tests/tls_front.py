"""TLS in front of the private services: real handshakes, with our own certificates, then the bytes as they are."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import trustme

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What libpq sends first (https://www.postgresql.org/docs/current/protocol-message-formats.html, SSLRequest)."""


@dataclass(frozen=True)
class Front:
    """A port that speaks TLS."""

    port: int


class _Server:
    """Runs in a thread of its own until it is stopped."""

    def __init__(self, target: int, context: ssl.SSLContext, *, postgres: bool) -> None:
        self.target, self.context, self.postgres = target, context, postgres
        self.ready = threading.Event()
        self.port = 0

    def run(self) -> None:
        asyncio.run(self._serve())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        context = None if self.postgres else self.context
        async with await asyncio.start_server(self._meet, "127.0.0.1", 0, ssl=context) as server:
            self.port = server.sockets[0].getsockname()[1]
            self.ready.set()
            await self._stopping.wait()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError), closing(writer):
            if self.postgres and await reader.readexactly(8) == SSL_REQUEST:
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self.context)
            back, forth = await asyncio.open_connection("127.0.0.1", self.target)
            with closing(forth):
                await asyncio.gather(_pass_on(reader, forth), _pass_on(back, writer))


@contextmanager
def tls_front(target: int, certificate: trustme.LeafCert, *, postgres: bool = False) -> Iterator[Front]:
    """Listen on loopback, show the certificate, pass on to the target port; Postgres asks for TLS first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    server = _Server(target, context, postgres=postgres)
    thread = threading.Thread(target=server.run, name="tls front", daemon=True)
    thread.start()
    assert server.ready.wait(10)
    try:
        yield Front(server.port)
    finally:
        server.stop()
        thread.join(10)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError), closing(writer):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
