"""TLS in front of the private services: real handshakes, with our own certificates, then the bytes as they are."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import trustme

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What libpq sends first (https://www.postgresql.org/docs/current/protocol-message-formats.html, SSLRequest)."""


@dataclass
class Front:
    """A port that speaks TLS; `refused` counts the handshakes that came to nothing."""

    port: int
    context: ssl.SSLContext
    links: list[socket.socket] = field(default_factory=list)
    refused: int = 0

    def show(self, certificate: trustme.LeafCert) -> None:
        """What is shown to those who connect from now on."""
        self.context = _showing(certificate)

    def cut(self) -> None:
        """End the connections that there are."""
        for link in list(self.links):
            _shut(link)


@contextmanager
def tls_front(target: int, certificate: trustme.LeafCert, *, postgres: bool = False) -> Iterator[Front]:
    """Listen on loopback, show the certificate, pass on to the target port; Postgres asks for TLS first."""
    threads: list[threading.Thread] = []
    stopping = threading.Event()

    def start(run: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)
        threads.append(thread)
        thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as connections:

        def accept() -> None:
            while not stopping.is_set():
                client, _ = listener.accept()
                connections.enter_context(client)
                start(meet, client)

        def meet(client: socket.socket) -> None:
            with suppress(OSError):
                if postgres and client.recv(8, socket.MSG_WAITALL) == SSL_REQUEST:
                    client.sendall(b"S")
                try:
                    inside = connections.enter_context(front.context.wrap_socket(client, server_side=True))
                except OSError:
                    front.refused += 1
                    raise
                front.links.append(inside)
                behind = connections.enter_context(socket.create_connection(("127.0.0.1", target)))
                connections.callback(_shut, inside)
                connections.callback(_shut, behind)
                start(_pass_on, inside, behind)
                _pass_on(behind, inside)

        port = listener.getsockname()[1]
        front = Front(port, _showing(certificate))
        start(accept)
        try:
            yield front
        finally:
            stopping.set()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
            connections.close()
            for thread in threads:
                thread.join(10)


def _showing(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    _shut(source)
    _shut(target)


def _shut(one: socket.socket) -> None:
    # a close alone would not end the thread that waits for its bytes
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
