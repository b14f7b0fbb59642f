"""Frames on their way to the socket: which of them share a buffer."""

from __future__ import annotations

from eventlet.queue import LightQueue

from sncontroller.openflow.wire import Wire
from tests.openflow.link import Places


class Datapath:
    """A Ryu datapath whose sender has not had its turn."""

    id, xid = 1, 0

    def __init__(self) -> None:
        self.send_q: LightQueue | None = LightQueue(16)
        self._send_q_sem = Places()

    def send(self, data: bytes) -> None:
        """Queue the buffer, as Ryu does; for a switch that is gone, nowhere."""
        if self.send_q is not None:
            self.send_q.put((data, False))

    def taken(self) -> bytes:
        """The next buffer, as the sender takes it."""
        assert self.send_q is not None
        return bytes(self.send_q.get()[0])


def test_frames_of_one_turn_share_a_buffer() -> None:
    """Until the sender takes it; then there is a new one."""
    datapath = Datapath()
    wire = Wire(datapath)
    wire.join(b"one")
    wire.join(b"two")
    assert datapath.taken() == b"onetwo"
    wire.join(b"three")
    assert datapath.taken() == b"three"


def test_frames_overtake_nothing() -> None:
    """What was sent in between leaves in between."""
    datapath = Datapath()
    wire = Wire(datapath)
    wire.join(b"frame")
    wire.send(b"table")
    wire.join(b"later")
    assert [datapath.taken() for _ in range(3)] == [b"frame", b"table", b"later"]


def test_a_buffer_has_a_bound() -> None:
    """A slow switch is noticed by the number of buffers that wait."""
    datapath = Datapath()
    wire = Wire(datapath)
    for _ in range(64):
        wire.join(bytes(1024))
    assert datapath.send_q is not None
    assert datapath.send_q.qsize() == 4


def test_a_switch_that_is_gone_gets_nothing() -> None:
    """Ryu has no queue for it any more."""
    datapath = Datapath()
    datapath.send_q = None
    Wire(datapath).join(b"frame")
