"""The Ryu application: ``ryu-manager sncontroller.app --sn-config FILE``.

Wiring only. Ryu's handlers turn what switches say into events on one queue; one green thread takes
them off, gives them to the controller and carries out its commands. No handler waits for a reply,
nothing here decides anything.

A queue between two green threads costs a turn of all of them. So what comes most often, a node's
answer to a probe, goes past the queue, while nothing waits in it.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from eventlet import queue
from ryu import cfg
from ryu.app.wsgi import WSGIApplication
from ryu.base import app_manager
from ryu.controller import ofp_event
from ryu.controller.handler import (
    DEAD_DISPATCHER,
    MAIN_DISPATCHER,
    set_ev_cls,
    set_ev_handler,
)
from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3

import sncontroller
from sncontroller import config
from sncontroller.controller import Controller
from sncontroller.core.commands import AddPin, Command
from sncontroller.core.events import (
    Answer,
    Event,
    Frame,
    NewFlow,
    Polled,
    SwitchDown,
    SwitchUp,
    Verb,
)
from sncontroller.core.layout import Zone
from sncontroller.hypervisors.remote import PluginHost
from sncontroller.northbound import metrics, rest, views
from sncontroller.openflow import packets
from sncontroller.openflow.admission import Admission
from sncontroller.openflow.switch import EVENTS, Switch
from sncontroller.outbox import Outbox
from sncontroller.store import KEEP_EVERY_S, Store
from sncontroller.turns import LONG_TURN_S, Turns, is_free

LOG = logging.getLogger("sncontroller")
CONFIG_VARIABLE = "SNCONTROLLER_CONFIG"
SHORTEST_PAUSE_S = 0.002
LONGEST_PAUSE_S = 0.1
"""What is due sooner than it was when the clock was looked at is so much late at most."""
CYCLES_SOUGHT = 50_000, 20, 100
"""When Python looks for garbage that counting references does not find. Entries and states are
trees, of which there are millions: looking for cycles among them took two fifths of compiling."""


class SNController(app_manager.RyuApp):  # type: ignore[misc]  # Ryu has no types
    """One controller for all groups of one configuration file."""

    OFP_VERSIONS: ClassVar = [ofproto_v1_3.OFP_VERSION]
    _CONTEXTS: ClassVar = {"wsgi": WSGIApplication}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._path = config_path()
        loaded = load_or_exit(self._path)
        self._switches: dict[int, Switch] = {}
        self._datapaths: dict[int, Any] = {}
        self._inbox: Any = queue.LightQueue()
        self._counted: Any = queue.LightQueue()
        """Counters, group by group: whatever else happens does not wait for them in the inbox."""
        self._unannounced = 0
        """Switches that have come up, and not all of their groups know it."""
        self._new_flows = Admission(self._answer, self._switches, self._watched)
        self._loops: list[Any] = []
        self._hearing = Turns()
        self.handler_errors = 0
        self._outbox = Outbox(
            self._switches,
            lambda group: self.controller.spec(group),
            PluginHost(loaded.controller, self.put),
            self.put,
            self._watched,
        )
        self._store = Store(loaded.state_dir, loaded.controller)
        self.controller = Controller(loaded, self, time.time(), self._store.recall)
        rest.mount(kwargs["wsgi"], self)

    def start(self) -> None:
        """Begin to work; called by Ryu once all applications exist."""
        super().start()
        gc.set_threshold(*CYCLES_SOUGHT)
        signal.signal(signal.SIGHUP, lambda *_: hub.spawn(self._reload_and_log))
        ryu = app_manager.lookup_service_brick("ofp_event")
        ryu.register_handler(ofp_event.EventOFPPacketIn, self.on_packet_in)
        loops = (self._work, self._count, self._new_flows.run, self._outbox.run)
        timers = (self._keep_time, self._poll, self._remember)
        self._loops = [hub.spawn(loop) for loop in (*loops, *timers)]

    def stop(self) -> None:
        """End; the switches go on forwarding, the nodes go on serving."""
        for loop in self._loops:
            hub.kill(loop)
        self._keep()
        self._outbox.plugins.close()
        super().stop()

    # events in

    def put(self, event: Event) -> None:
        """Queue an event for the controller. New flows beyond a bound are dropped and counted."""
        if isinstance(event, NewFlow):
            self._new_flows.put(event)
        elif isinstance(event, Polled):
            self._counted.put(event)
        elif isinstance(event, Frame) and is_free(self._inbox):
            with self._watched(event):
                self.controller.handle(_read(event), time.time())
        else:
            self._unannounced += isinstance(event, SwitchUp)
            self._inbox.put(event)

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    def on_state(self, change: Any) -> None:
        """A switch connected or went away."""
        datapath = change.datapath
        if change.state == MAIN_DISPATCHER:
            layout = self.controller.config.switch.layout
            self._switches[datapath.id] = Switch(datapath, layout, self.put)
            self._datapaths[datapath.id] = datapath
            self._switches[datapath.id].start()
        elif self._is_current(datapath):
            del self._switches[datapath.id], self._datapaths[datapath.id]
            self.put(SwitchDown(datapath.id))

    @set_ev_cls(list(EVENTS), MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_message(self, event: Any) -> None:
        """Whatever else a switch says is for its ``Switch``."""
        datapath = event.msg.datapath
        if self._is_current(datapath):
            self._hearing.begin()
            with self._watched(event.msg):
                self._switches[datapath.id].on_message(event.msg)
            self._hearing.pause()

    @set_ev_handler(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def on_packet_in(self, event: Any) -> None:
        """The same for packet-ins, in the green thread that has read them from the socket.

        Ryu asks a handler there for its states, so that one that is merely registered would not do.
        """
        self.on_message(event)

    def _is_current(self, datapath: Any) -> bool:
        """Whether this is the switch's connection of now, not one from before it reconnected."""
        known: Any = self._datapaths.get(datapath.id)
        return known is not None and known is datapath

    # green threads

    def _work(self) -> None:
        """Give events to the groups they concern, one group at a time.

        When all know of a switch that has come up, it is polled at once: least connections needs
        its counts.
        """
        turns = Turns(LONG_TURN_S)
        while True:
            event = self._inbox.get()
            turns.begin()
            zones: tuple[Zone, ...] = ()
            with self._watched(event):
                event = _read(event)
                zones = self.controller.received(event, time.time())
            for zone in zones:
                with self._watched(event):
                    self.controller.give(zone, event, time.time())
                turns.pause()
            if isinstance(event, SwitchUp):
                self._unannounced -= 1
                self._ask_counters(event.datapath)
            turns.pause()

    def _count(self) -> None:
        """Take in counters, group by group.

        A change needs a dozen turns of everybody's until the switch confirms it: they are as short
        as can be then.
        """
        turns = Turns()
        while True:
            polled = self._counted.get()
            turns.begin()
            with self._watched(polled):
                self.controller.handle(polled, time.time())
            switches = self._switches.values()
            changing = not self._outbox.is_empty or any(each.is_changing for each in switches)
            turns.pause(at_once=changing)

    def _answer(self, flow: NewFlow) -> list[AddPin]:
        """What is to be sent for a new flow."""
        with self._watched(flow):
            self.controller.handle(flow, time.time())
        return self._outbox.taken_pins()

    @contextmanager
    def _watched(self, what: object) -> Iterator[None]:
        """An exception in here is logged and counted; the loop goes on."""
        try:
            yield
        except Exception:
            self.handler_errors += 1
            LOG.exception("cannot handle %s", type(what).__name__)

    def _keep_time(self) -> None:
        while True:
            now = time.time()
            try:
                due_s = self.controller.tick(now)
            except Exception:
                self.handler_errors += 1
                LOG.exception("cannot keep time")
                due_s = now + 1
            pause_s = min(due_s - time.time(), LONGEST_PAUSE_S)
            hub.sleep(max(SHORTEST_PAUSE_S, pause_s))

    def _poll(self) -> None:
        """Poll every interval; not before what the last poll brought is read: it would pile up.

        Counts of a switch that a group does not know yet would be lost.
        """
        while True:
            hub.sleep(self.controller.config.poll_interval_s)
            while self._unannounced or not self._counted.empty():
                hub.sleep(SHORTEST_PAUSE_S)
            for datapath in tuple(self._switches):
                self._ask_counters(datapath)

    def _ask_counters(self, datapath: int) -> None:
        switch = self._switches.get(datapath)
        if switch is not None:
            with self._watched(switch):
                switch.poll(time.time())

    def _remember(self) -> None:
        """At once for the first time: it is said then, if nothing can be kept."""
        while True:
            with self._watched(self._store):
                self._keep()
            hub.sleep(KEEP_EVERY_S)

    def _keep(self) -> None:
        """Write down what groups have learnt, but of those that are on their way out."""
        named = self.controller.config.group
        groups = self.controller.groups.values()
        self._store.keep(group for group in groups if named(group.spec.name) is not None)

    def carry_out(self, group: str, command: Command) -> None:
        """Begin to carry out a command of the core; a step never waits, so no two overlap."""
        self._outbox.put(group, command)

    # what the northbound asks

    def status(self) -> dict[str, Any]:
        """The state of all groups, as ``GET /v1/status`` shows it."""
        name, version = self.controller.config.controller, sncontroller.__version__
        counters = {
            "dropped_new_flows_total": self._new_flows.dropped,
            "handler_errors_total": self.handler_errors,
        }
        shown = views.status(name, version, self.controller.groups.values(), time.time())
        return {**shown, "counters": counters}

    def metrics(self) -> str:
        """The same for Prometheus."""
        return metrics.render(self.status())

    def ask(self, group: str, node: str, verb: Verb) -> None:
        """Drain, undrain or fail a node; raises ``UnknownError``, ``ConflictError``."""
        self.controller.ask(group, node, verb, time.time())

    def scale(self, group: str, nodes: int | None) -> None:
        """Set or release the number of nodes; raises ``UnknownError``, ``ConflictError``."""
        self.controller.scale(group, nodes, time.time())
        self._keep()

    def reload(self) -> tuple[str, ...]:
        """Read the file again and apply what changed: the names of the groups concerned.

        Raises ``config.ConfigError``; then everything stays as it is.
        """
        fresh = config.load(self._path)
        refused = self.controller.refusals(fresh)
        if refused:
            problems = tuple(config.Problem(r.path, r.message) for r in refused)
            raise config.ConfigError(problems)
        changed = self.controller.reconfigure(fresh, time.time())
        for name in changed:
            if fresh.group(name) is None:
                self._store.forget(name)
        return changed

    def _reload_and_log(self) -> None:
        try:
            changed = self.reload()
        except config.ConfigError as error:
            LOG.error("reload refused, the running configuration stays:\n%s", error)
        else:
            LOG.info("reloaded; changed groups: %s", ", ".join(changed) or "none")


def config_path() -> str:
    """The configuration's path, from ``--sn-config`` or the environment; exits without one."""
    path = getattr(cfg.CONF, "sn_config", None) or os.environ.get(CONFIG_VARIABLE)
    if not path:
        print(
            f"sncontroller: no configuration: give --sn-config FILE or set {CONFIG_VARIABLE}",
            file=sys.stderr,
        )
        raise SystemExit(2)
    return str(path)


def load_or_exit(path: str) -> config.Config:
    """The configuration; with problems in it, they are printed and the process ends with 2."""
    try:
        return config.load(path)
    except config.ConfigError as error:
        print(f"sncontroller: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _read(event: Event) -> Event:
    """A frame's bytes as the core wants them; one that means nothing to it stays a frame."""
    if not isinstance(event, Frame):
        return event
    frame = packets.decoded(event.frame)
    if frame is None:
        return event
    return Answer(event.datapath, event.zone, event.in_port, frame)
