"""What the broker says is taken in as py-amqp would, however its bytes arrive."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliable_tasks.broker.hearing import Ear

CHANNEL = 1


@dataclass
class Connection:
    """In the place of py-amqp's: notes the frames that are left to it."""

    sock: Any
    heard: list[Any] = field(default_factory=list)

    def on_inbound_frame(self, frame: Any) -> None:
        self.heard.append(frame)


@pytest.fixture
def broker() -> Iterator[Any]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with ours, theirs:
        yield Connection(ours), theirs


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def ack(tag: int, multiple: bool, channel: int = CHANNEL) -> bytes:
    return frame(1, channel, struct.pack(">HHQB", 60, 80, tag, multiple))


tags = st.tuples(st.integers(1, 2**64 - 1), st.booleans())
others = st.tuples(st.sampled_from([1, 2, 3, 8]), st.sampled_from([0, CHANNEL, 7]), st.binary(max_size=40))


@given(said=st.lists(tags | others, max_size=8), cuts=st.lists(st.integers(0, 400), max_size=8))
def test_every_frame_is_heard_once_and_in_order_wherever_it_is_cut(said: list[Any], cuts: list[int]) -> None:
    stream = b"".join(ack(*one) if len(one) == 2 else frame(*one) for one in said)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        connection = Connection(ours)
        heard = connection.heard
        ear = Ear(connection, CHANNEL, lambda tag, multiple: heard.append((tag, multiple)), 5)
        places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
        for begin, end in pairwise(places):
            theirs.sendall(stream[begin:end])
            while ear.hear(0):
                pass
    assert heard == said


def test_acks_of_another_channel_and_nacks_are_not_its_own(broker: Any) -> None:
    connection, theirs = broker
    acked: list[Any] = []
    ear = Ear(connection, CHANNEL, lambda *one: acked.append(one), 5)
    nack = frame(1, CHANNEL, struct.pack(">HHQB", 60, 120, 1, 0))
    theirs.sendall(ack(5, False, channel=2) + nack)
    assert ear.hear(5)
    assert [kind for kind, _, _ in connection.heard] == [1, 1]
    assert acked == []


def test_what_ends_it_is_an_error(broker: Any) -> None:
    connection, theirs = broker
    ear = Ear(connection, CHANNEL, lambda *_: None, 5)
    assert not ear.hear(0)
    theirs.sendall(ack(1, False)[:-1] + b"x")
    with pytest.raises(ConnectionError):
        ear.hear(5)
    theirs.close()
    with pytest.raises(ConnectionResetError):
        ear.hear(5)
