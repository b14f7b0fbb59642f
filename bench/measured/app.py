"""The product's own Ryu application with a clock on it, for ``ryu-manager``.

Owns the times of what passes by: when a table was asked for and when the switch's barrier confirmed
it, when a round of statistics began and when its last answer came. Everything that is measured is
the product as it is; only the hypervisor's process is replaced by answers that are there at once,
because its speed is not the controller's. What to do comes in as lines of JSON on the Unix socket
that the environment names, each is answered by one line.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from ryu.lib import hub

import sncontroller.app
from sncontroller.app import SNController
from sncontroller.core.commands import AddPin, Apply, Command, ListNodes, StartNode, StopNode
from sncontroller.core.events import Applied, Call, Event, HypervisorResult, Polled, SwitchUp
from sncontroller.core.health import Kind as Probe
from sncontroller.core.hypervisor import NodeInfo, NodeStatus
from sncontroller.core.layout import Zone
from sncontroller.core.model import Config, HypervisorSpec
from sncontroller.openflow import switch as switch_module
from sncontroller.openflow.admission import MOST_WAITING
from sncontroller.openflow.bundle import Change
from sncontroller.openflow.polls import Round
from sncontroller.openflow.switch import Switch

SOCKET = "SNCONTROLLER_BENCH_SOCKET"
READY = "SNCONTROLLER_BENCH_READY"
"""How many nodes each group has, the primary included, where the hypervisor is replaced."""
FIRST_SECONDARY = 2
_LOOK_EVERY_S, _BEAT_S = 0.05, 0.02
_CHANGE_WITHIN_S = 10.0
_SAMPLE_EVERY_S = 0.002


class ReadyNodes:
    """A hypervisor whose nodes run already: node N of each group on port ``nN``."""

    def __init__(self, nodes: int, emit: Callable[[Event], None]) -> None:
        self._nodes, self._emit = nodes, emit

    def carry_out(
        self, group: str, spec: HypervisorSpec, command: StartNode | StopNode | ListNodes
    ) -> None:
        """Answer at once."""
        nodes = tuple(
            NodeInfo(f"{group}-{i}", i, f"n{i}", f"02:00:00:00:00:{i:02x}", NodeStatus.RUNNING)
            for i in range(FIRST_SECONDARY, self._nodes + 1)
        )
        match command:
            case ListNodes(zone):
                self._say(zone, Call.LIST, None, nodes)
            case StartNode(zone, request):
                made = tuple(node for node in nodes if node.name == request.name)
                self._say(zone, Call.START, request.name, made)
            case StopNode(zone, name):
                self._say(zone, Call.STOP, name, ())

    def close(self) -> None:
        """Nothing to end."""

    def _say(self, zone: Zone, call: Call, node: str | None, nodes: tuple[NodeInfo, ...]) -> None:
        self._emit(HypervisorResult(zone, call, node, nodes, None, permanent=False, took_s=0.0))


class TimedSwitch(Switch):
    """Notes when the switch connected."""

    connected_s: float = 0.0

    def start(self) -> None:
        """Begin, as the product does."""
        TimedSwitch.connected_s = time.monotonic()
        super().start()


class CountedChange(Change):
    """Counts what is really sent to the switch."""

    operations: int = 0

    def __init__(self, wire: Any, operations: Sequence[Any], finish: Any) -> None:
        CountedChange.operations += len(operations)
        super().__init__(wire, operations, finish)


class CountedRound(Round):
    """Counts rounds of statistics that had to end without all answers."""

    partial: int = 0

    def close(self) -> None:
        """End it, as the product does."""
        CountedRound.partial += not self.complete
        super().close()


sncontroller.app.Switch = TimedSwitch  # type: ignore[attr-defined]  # what the application makes
switch_module.Change = CountedChange  # type: ignore[attr-defined]  # and what a switch makes
switch_module.Round = CountedRound  # type: ignore[attr-defined]
_load_or_exit = sncontroller.app.load_or_exit


def _unprobed(path: str) -> Config:
    """The configuration, with all that belongs to probes but the probes.

    Nobody could answer them on a datapath that forwards nothing.
    """
    loaded = _load_or_exit(path)
    groups = (
        spec.model_copy(update={"health": spec.health.model_copy(update={"kind": Probe.NONE})})
        for spec in loaded.groups
    )
    return loaded.model_copy(update={"groups": tuple(groups)})


if READY in os.environ:
    sncontroller.app.load_or_exit = _unprobed


class MeasuredController(SNController):
    """The product's application; what it says and hears is noted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.up_s = 0.0
        self.first_asked_s: float | None = None
        self.confirmed_s = 0.0
        self.asked = self.confirmed = self.pins = 0
        self.waiting: dict[tuple[Zone, int], Callable[[float], None]] = {}
        self.polls: dict[float, float] = {}
        self.longest_inbox = 0
        self.longest_stall_s = 0.0
        began = time.monotonic()
        super().__init__(*args, **kwargs)
        self.read_s = time.monotonic() - began
        if READY in os.environ:
            nodes: Any = ReadyNodes(int(os.environ[READY]), self.put)
            self._outbox.plugins = nodes

    def start(self) -> None:
        """Begin, and listen to the benchmark."""
        super().start()
        self._loops += [hub.spawn(self._obey), hub.spawn(self._beat)]

    # what passes by

    def put(self, event: Event) -> None:
        """Note what the switch says, and go on."""
        now = time.monotonic()
        match event:
            case Applied(zone=zone, version=version):
                self.confirmed += 1
                self.confirmed_s = now
                if (zone, version) in self.waiting:
                    self.waiting.pop((zone, version))(now)
            case Polled(at_s=at_s):
                self.polls[at_s] = time.time()
            case SwitchUp():
                self.up_s = now
            case _:
                pass
        super().put(event)
        self.longest_inbox = max(self.longest_inbox, len(self._new_flows))

    def carry_out(self, group: str, command: Command) -> None:
        """Note what the core wants, and go on."""
        match command:
            case Apply():
                self.asked += 1
                self.first_asked_s = self.first_asked_s or time.monotonic()
            case AddPin():
                self.pins += 1
            case _:
                pass
        super().carry_out(group, command)

    def _beat(self) -> None:
        """Notice how long nobody else gets a turn: echo requests of the switch wait, too."""
        while True:
            before = time.monotonic()
            hub.sleep(_BEAT_S)
            self.longest_stall_s = max(self.longest_stall_s, time.monotonic() - before - _BEAT_S)

    # what the benchmark wants

    def _obey(self) -> None:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(os.environ[SOCKET])
            with line.makefile("rw") as talk:
                for said in talk:
                    wanted = json.loads(said)
                    answer = getattr(self, f"do_{wanted.pop('do')}")(**wanted)
                    talk.write(json.dumps(answer) + "\n")
                    talk.flush()

    def do_settled(self, nodes: int, asked: int, within_s: float) -> dict[str, Any]:
        """Wait until every group has that many serving nodes and the switch confirmed it.

        And until so many tables were asked for: those of before do not count.
        """
        deadline = time.monotonic() + within_s
        settled = False
        while not settled and time.monotonic() < deadline:
            settled = self.asked >= asked and self._settled(nodes)
            hub.sleep(0 if settled else _LOOK_EVERY_S)
        return {
            "settled": settled,
            "connected_s": TimedSwitch.connected_s,
            "up_s": self.up_s,
            "first_asked_s": self.first_asked_s,
            "confirmed_s": self.confirmed_s,
            "asked": self.asked,
            "confirmed": self.confirmed,
            "operations": CountedChange.operations,
            "read_s": self.read_s,
            "longest_stall_s": self.longest_stall_s,
        }

    def _settled(self, nodes: int) -> bool:
        """Whether all groups are; the last one first, it is the likeliest not to be."""
        groups = self.controller.groups.values()
        return all(
            group.live_version == group.version > 0 and len(group.serving) == nodes
            for group in reversed(groups)
        )

    def do_forget(self) -> dict[str, Any]:
        """Begin to note anew."""
        self.first_asked_s, self.asked, self.confirmed, self.up_s = None, 0, 0, 0.0
        CountedChange.operations = 0
        self.longest_stall_s = 0.0
        self.polls.clear()
        CountedRound.partial = 0
        self.longest_inbox = self.pins = 0
        return {}

    def do_changes(self, nodes: int, count: int) -> dict[str, Any]:
        """One node fewer, one node more, in one group after the other: decision to barrier, ms."""
        names = [group.spec.name for group in self.controller.groups.values()]
        took_ms: list[float] = []
        for nth in range(count):
            name = names[nth // 2 * 7 % len(names)]
            took_ms.append(self._change(name, nodes if nth % 2 else nodes - 1) * 1000)
            hub.sleep(0.01)
        return {"took_ms": took_ms}

    def _change(self, name: str, wanted: int) -> float:
        """Seconds from the operator's word to the barrier that confirms it."""
        zone, group = next(
            (zone, g) for zone, g in self.controller.groups.items() if g.spec.name == name
        )
        confirmed: list[float] = []
        self.waiting[zone, group.version + 1] = confirmed.append
        began = time.monotonic()
        self.controller.scale(name, wanted, time.time())
        while not confirmed and time.monotonic() < began + _CHANGE_WITHIN_S:
            hub.sleep(0.001)
        return confirmed[0] - began if confirmed else _CHANGE_WITHIN_S

    def do_watch(self, seconds: float) -> dict[str, Any]:
        """Let it run: the process's share of a core, and the rounds of statistics."""
        self.polls.clear()
        cpu, began = _cpu_s(), time.monotonic()
        hub.sleep(seconds)
        share = (_cpu_s() - cpu) / (time.monotonic() - began)
        rounds = {at: done for at, done in self.polls.items() if done}
        return {
            "core_share": share,
            "rounds": len(rounds),
            "round_ms": [(done - at) * 1000 for at, done in rounds.items()],
        }

    def do_profile(self, seconds: float) -> dict[str, Any]:
        """Where the processor's time goes: shares of samples, by function, itself and all in it."""
        samples = Samples()
        signal.signal(signal.SIGPROF, samples.take)
        signal.setitimer(signal.ITIMER_PROF, _SAMPLE_EVERY_S, _SAMPLE_EVERY_S)
        hub.sleep(seconds)
        signal.setitimer(signal.ITIMER_PROF, 0)
        return samples.shares()

    def do_counts(self) -> dict[str, Any]:
        """What there is at the moment."""
        return {
            "inbox": self._inbox.qsize(),
            "new_flows": len(self._new_flows),
            "longest_inbox": self.longest_inbox,
            "bound": MOST_WAITING,
            "pins": self.pins,
            "dropped": self._new_flows.dropped,
            "errors": self.handler_errors,
            "polls": sorted(self.polls.items()),
            "partial_polls": CountedRound.partial,
            "falls": sum(
                n.health.falls for g in self.controller.groups.values() for n in g.nodes.values()
            ),
            "cpu_s": _cpu_s(),
            "now_s": time.time(),
        }


class Samples:
    """Stacks as a statistical profiler sees them."""

    def __init__(self) -> None:
        self.count = 0
        self.itself: Counter[str] = Counter()
        self.within: Counter[str] = Counter()

    def take(self, _number: int, frame: FrameType | None) -> None:
        """One sample."""
        self.count += 1
        stack = []
        while frame is not None:
            code = frame.f_code
            stack.append(f"{code.co_filename.rpartition('/')[2]}:{code.co_qualname}")
            frame = frame.f_back
        self.itself.update(stack[:1])
        self.within.update(set(stack))

    def shares(self) -> dict[str, Any]:
        """The 15 most frequent of both kinds."""
        total = max(1, self.count)
        return {
            "samples": self.count,
            "itself": {name: n / total for name, n in self.itself.most_common(15)},
            "within": {name: n / total for name, n in self.within.most_common(25)},
        }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
