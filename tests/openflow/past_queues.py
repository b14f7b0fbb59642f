"""What goes past the application's queues, between green threads that all want their turn.

A process of its own, because green threads take the thread over that they run in. The argument is
one of the functions below; what it returns is printed.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from sncontroller.ryu_manager import prepare_eventlet

if __name__ == "__main__":
    prepare_eventlet()

from ipaddress import IPv4Address

import eventlet
from ryu.app.wsgi import WSGIApplication
from ryu.base import app_manager
from ryu.controller.controller import Datapath
from ryu.controller.handler import MAIN_DISPATCHER
from ryu.controller.ofp_handler import OFPHandler
from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3
from ryu.ofproto.ofproto_common import OFP_HEADER_SIZE
from ryu.ofproto.ofproto_parser import header

import sncontroller.app
from sncontroller.core import neighbour
from sncontroller.core.commands import Command, DropPins, Transmit
from sncontroller.core.events import Event, Frame, Port, PortSeen, SwitchUp, Tick
from sncontroller.core.layout import Index, Layout, Zone, origin
from sncontroller.openflow.switch import Switch
from sncontroller.outbox import Outbox

DATAPATH, GROUPS, THREADS, EACH = 7, 3, 5, 200
RYU_QUEUE = 16
CONFIG = """
groups:
""" + "".join(
    f"""
  g{n}:
    id: {n}
    match: {{address: 10.0.0.{n}, ports: [80]}}
    primary: {{port: vm{n}, mac: '02:00:00:00:00:0{n}'}}
    health: {{kind: none}}
    scaling: {{policy: manual, max: 1}}
"""
    for n in range(1, GROUPS + 1)
)


# In


def events() -> bool:
    """Whether groups get events in the order in which they were put, each once."""
    log: list[tuple[int, Event]] = []
    with _application() as app:
        step = app.controller._step

        def noted(zone: Zone, event: Event, now: float) -> None:
            if not isinstance(event, Tick):
                log.append((zone, event))
            step(zone, event, now)

        app.controller._step = noted
        put: list[Event] = [SwitchUp(DATAPATH, "br0", tuple(map(_port, range(1, GROUPS + 1))), {})]
        app.put(put[0])

        def bring(event: Event) -> None:
            put.append(event)
            app.put(event)

        _all_at_once(lambda: bring(_event()))
        wanted = [(zone, event) for event in put for zone in _whose(event)]
        while len(log) < len(wanted):
            hub.sleep(0.001)
        return log == wanted


def faults() -> bool:
    """Whether an error over a message, or while something is written down, ends nothing."""
    sncontroller.app.KEEP_EVERY_S = 0.001
    with _application() as app:
        datapath = SimpleNamespace(id=DATAPATH)
        app._datapaths[DATAPATH] = datapath
        app._switches[DATAPATH] = SimpleNamespace(on_message=None)
        heard = SimpleNamespace(msg=SimpleNamespace(datapath=datapath))
        app.on_message(heard)
        app.on_packet_in(heard)
        keep, app._store.keep = app._store.keep, None
        hub.sleep(0.1)
        app._store.keep = keep
        del app._switches[DATAPATH]
        return app.handler_errors > len((heard, heard, keep))


@contextmanager
def _application() -> Iterator[Any]:
    """The application, each of whose turns is as short as can be."""
    sncontroller.app.LONG_TURN_S = 0.0
    app_manager.register_app(OFPHandler())
    with TemporaryDirectory() as directory:
        file = Path(directory) / "sn.yaml"
        file.write_text(CONFIG)
        os.environ[sncontroller.app.CONFIG_VARIABLE] = str(file)
        app = sncontroller.app.SNController(wsgi=WSGIApplication())
        app.start()
        yield app
        app.stop()


def _port(number: int) -> Port:
    return Port(number, f"vm{number}", f"02:00:00:00:00:0{number}", up=True)


def _event() -> Event:
    number = random.randint(1, GROUPS)
    if random.random() < 0.1:
        return SwitchUp(DATAPATH, "br0", tuple(map(_port, range(1, GROUPS + 1))), {})
    if random.random() < 0.5:
        return PortSeen(DATAPATH, _port(number))
    return Frame(DATAPATH, Zone(number), number, bytes(8))


def _whose(event: Event) -> tuple[int, ...]:
    if isinstance(event, SwitchUp):
        return tuple(range(1, GROUPS + 1))
    return (event.port.number if isinstance(event, PortSeen) else event.zone,)  # type: ignore[union-attr]


def _all_at_once(bring: Callable[[], None]) -> None:
    """Several green threads bring something, with or without a turn for the others between."""

    def brings() -> None:
        for _ in range(EACH):
            bring()
            if random.random() < 0.5:
                hub.sleep(0)

    hub.joinall([hub.spawn(brings) for _ in range(THREADS)])


# Out


class Connection:
    """A Ryu datapath, its ``Switch`` and the outbox; the other end reads when it is told to."""

    def __init__(self) -> None:
        if app_manager.lookup_service_brick("ofp_event") is None:
            app_manager.register_app(OFPHandler())
        listener = eventlet.listen(("127.0.0.1", 0))
        self.far = eventlet.connect(listener.getsockname())
        near, address = listener.accept()
        self.datapath = Datapath(near, address)
        self.datapath.id = DATAPATH
        self.datapath.set_version(ofproto_v1_3.OFP_VERSION)
        self.datapath.state = MAIN_DISPATCHER
        self.switch = Switch(self.datapath, Layout(), lambda event: None)
        self.outbox = Outbox(
            {DATAPATH: self.switch}, lambda group: None, Any, print, lambda what: nullcontext()
        )
        for loop in (self.datapath._send_loop, self.outbox.run):
            hub.spawn(loop)

    def read(self) -> Iterator[bytes]:
        """The messages that come out, for ever."""
        while True:
            head = self._exactly(OFP_HEADER_SIZE)
            yield head + self._exactly(header(head)[2] - len(head))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.far.recv(size - len(data))
        return data


def commands() -> bool:
    """Whether what is put comes out, in that order."""
    connection = Connection()
    put: list[tuple[str, int]] = []
    heard: list[tuple[str, int]] = []

    def hear() -> None:
        for message in connection.read():
            heard.append(_said(message))

    def bring() -> None:
        number = len(put) % 4000 + 1
        command: Command = DropPins(DATAPATH, Zone(1), Index(number))
        if random.random() < 0.7:
            command = _frame(number)
        put.append((type(command).__name__, number))
        connection.outbox.put("web", command)

    hub.spawn(hear)
    _all_at_once(bring)
    with hub.Timeout(10, False):
        while len(heard) < len(put):
            hub.sleep(0.001)
    return heard == put


def turns() -> bool:
    """Whether nobody else has a turn while a frame is put, where somebody waits for a place."""
    tries = (_is_alone() for _ in range(20))
    return next(alone for alone in tries if alone is not None)


def _is_alone() -> bool | None:
    """The same, when all that waited at the switch has just left; ``None`` where that was missed.

    Whoever waits for a place there is next.
    """
    connection, had_turn = Connection(), False
    connection.datapath.send(bytes(16 << 20))
    hub.sleep(0.1)
    for _ in range(RYU_QUEUE):
        connection.datapath.send(bytes(8))

    def wait() -> None:
        nonlocal had_turn
        connection.datapath.send(bytes(8))
        had_turn = True

    def swallow() -> None:
        while True:
            connection.far.recv(1 << 20)

    hub.spawn(wait)
    hub.sleep(0.1)
    hub.spawn(swallow)
    while connection.datapath.send_q.qsize():
        hub.sleep(0)
    if had_turn:
        return None
    connection.outbox.put("web", _frame(1))
    return not had_turn


def _frame(number: int) -> Transmit:
    frame = neighbour.announcement("02:00:00:00:00:01", IPv4Address("10.0.0.1"), None)
    return Transmit(DATAPATH, number, frame)


def _said(message: bytes) -> tuple[str, int]:
    if message[1] == ofproto_v1_3.OFPT_PACKET_OUT:
        return "Transmit", int.from_bytes(message[28:32])
    whose = origin(int.from_bytes(message[8:16]))
    assert whose is not None
    return "DropPins", whose.index


if __name__ == "__main__":
    print(
        json.dumps(
            {each.__name__: each for each in (events, faults, commands, turns)}[sys.argv[1]]()
        )
    )
