"""A TCP proxy in front of a broker or a database, which cuts, stalls and deafens at chosen frames or messages."""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from tests.chaos.amqp_frames import Unit
from tests.chaos.faults import Direction, Effect, Fault
from tests.chaos.protocols import PROTOCOLS

_CHUNK = 65536


class _Gone(Exception):
    """The connection is no more."""


@dataclass(eq=False)
class Link:
    """One connection of a client through the proxy."""

    client: socket.socket
    server: socket.socket
    open: dict[Direction, asyncio.Event] = field(default_factory=dict)
    dropped: set[Direction] = field(default_factory=set)
    passed: dict[Direction, int] = field(default_factory=lambda: dict.fromkeys(Direction, 0))
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open = {direction: asyncio.Event() for direction in Direction}
        self.go_on()

    def ends(self, direction: Direction) -> tuple[socket.socket, socket.socket]:
        """From where and to where bytes go."""
        both = (self.client, self.server)
        return both if direction is Direction.TO_SERVER else both[::-1]

    def suffer(self, effect: Effect) -> None:
        """Do to this connection what the effect says."""
        for direction in effect.stalls:
            self.open[direction].clear()
        self.dropped |= effect.drops
        if effect in (Effect.RESET, Effect.CLOSE):
            self.end(reset=effect is Effect.RESET)

    def go_on(self) -> None:
        """Let pass what waits."""
        for event in self.open.values():
            event.set()

    def end(self, *, reset: bool) -> None:
        """Close both sides."""
        for side in (self.client, self.server):
            if reset:
                with suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif side.fileno() >= 0:
                with suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
        self.ended.set()
        self.go_on()


class Proxy:
    """Listens on a free loopback port, in a thread of its own, until the end of the block.

    Args:
        protocol: "amqp" or "postgres"; "bytes" knows no frames.
        host, port: where the real service is.
        seed: of the jitter.
    """

    def __init__(self, protocol: str, host: str, port: int, *, seed: int = 0) -> None:
        self._parser = PROTOCOLS[protocol]
        self._target = (host, port)
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"{protocol} proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: set[Link] = set()
        self._defects: list[Exception] = []
        self._faults: list[Fault] = []
        self._latency = (0.0, 0.0)
        self._refusing = False
        self._refused = 0
        self._standing: Effect | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._loop.call_soon_threadsafe(self._begin, self._accept())
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(10)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()
            self._listener.close()

    def when(self, fault: Fault) -> Fault:
        """Schedule a fault; its `fired` says when it was done."""
        self._call(self._faults.append, fault)
        return fault

    def now(self, effect: Effect) -> int:
        """Do this to all connections that there are, and to new ones until healed; returns how many there were."""
        return asyncio.run_coroutine_threadsafe(self._suffer(effect), self._loop).result(10)

    def delay(self, seconds: float, jitter: float = 0.0) -> None:
        """Let each unit wait so long, up to `jitter` longer; their order stays."""
        self._call(setattr, self, "_latency", (seconds, jitter))

    def refuse(self) -> None:
        """Reset all connections, and each new one."""
        self._call(setattr, self, "_refusing", True)
        self.now(Effect.RESET)

    def refused(self) -> int:
        """How many new connections were refused so far."""
        return int(self._call(lambda: self._refused))

    def heal(self) -> None:
        """Let pass what waits, and new connections; end what has lost bytes."""
        self._call(self._heal)

    def lead_to(self, host: str, port: int) -> None:
        """Connections that are made from now on go there; those that there are stay where they are."""
        self._call(setattr, self, "_target", (host, port))

    def connections(self) -> int:
        """How many there are now."""
        return int(self._call(lambda: len(self._links)))

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def call() -> Any:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._defects.append(error)

    async def _suffer(self, effect: Effect) -> int:
        links = list(self._links)
        for link in links:
            link.suffer(effect)
        if effect in (Effect.RESET, Effect.CLOSE):
            await asyncio.gather(*(link.closed.wait() for link in links))
        else:
            self._standing = effect
        return len(links)

    def _heal(self) -> None:
        self._refusing, self._standing = False, None
        self._latency = (0.0, 0.0)
        for link in self._links:
            link.go_on()
            if link.dropped:
                link.end(reset=True)

    async def _finish(self) -> None:
        for link in self._links:
            link.end(reset=True)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._defects:
            raise ExceptionGroup("the proxy itself failed", self._defects)

    async def _accept(self) -> None:
        while True:
            client, _address = await self._loop.sock_accept(self._listener)
            self._begin(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        client.setblocking(False)
        server = socket.socket()
        server.setblocking(False)
        link = Link(client, server)
        try:
            if self._refusing:
                self._refused += 1
                link.end(reset=True)
                return
            await self._loop.sock_connect(server, self._target)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._links.add(link)
            if self._standing is not None:
                link.suffer(self._standing)
            pumps = [self._loop.create_task(self._pump(link, direction)) for direction in Direction]
            try:
                await self._until_over(link, pumps)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            link.end(reset=True)  # the service is not there
        finally:
            self._links.discard(link)
            client.close()
            server.close()
            link.closed.set()

    async def _until_over(self, link: Link, pumps: list[asyncio.Task[None]]) -> None:
        ended, pumped = self._loop.create_task(link.ended.wait()), self._loop.create_task(_all_done(pumps))
        try:
            await asyncio.wait((ended, pumped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            pumped.cancel()

    async def _pump(self, link: Link, direction: Direction) -> None:
        source, target = link.ends(direction)
        parser = self._parser(direction)
        with suppress(_Gone):
            try:
                while data := await self._loop.sock_recv(source, _CHUNK):
                    for unit in parser.feed(data):
                        await self._forward(link, direction, unit, target)
                with suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
            except OSError:
                link.end(reset=True)

    async def _forward(self, link: Link, direction: Direction, unit: Unit, target: socket.socket) -> None:
        due = [fault for fault in self._faults if fault.meets(direction, unit.name)]
        for fault in due:
            if not fault.after:
                self._fire(link, fault)
        await self._wait_turn(link, direction)
        if direction not in link.dropped:
            await self._send(link, direction, unit.data, target)
        for fault in due:
            if fault.after:
                self._fire(link, fault)

    async def _wait_turn(self, link: Link, direction: Direction) -> None:
        await link.open[direction].wait()
        seconds, jitter = self._latency
        if seconds or jitter:
            await asyncio.sleep(seconds + self._random.uniform(0, jitter))
        if link.ended.is_set():
            raise _Gone

    async def _send(self, link: Link, direction: Direction, data: bytes, target: socket.socket) -> None:
        passed = link.passed[direction]
        for fault in self._faults:
            left = fault.bytes_left(direction, passed)
            if left is not None and left < len(data):
                await self._loop.sock_sendall(target, data[:left])
                self._fire(link, fault)
                await self._wait_turn(link, direction)
                data = b"" if direction in link.dropped else data[left:]
        link.passed[direction] += len(data)
        await self._loop.sock_sendall(target, data)

    def _fire(self, link: Link, fault: Fault) -> None:
        link.suffer(fault.effect)
        fault.fired.set()


async def _all_done(tasks: list[asyncio.Task[None]]) -> bool:
    await asyncio.wait(tasks)
    return True
