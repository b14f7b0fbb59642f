"""What the demo shows while it runs: a live picture on a terminal, lines elsewhere.

Owns the rendering of a moment, and nothing that decides. ``Live`` draws over itself with rich;
``Lines`` prints what is new, for logs and pipes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sncontroller.lab.samples import EventSeen, Moment, NodeSeen, Traffic, percentile_ms
from sncontroller.lab.scenario import Phase

STORY = {
    Phase.ALONE: "the primary alone, as it was before; users come until it is saturated",
    Phase.ATTACH: "the controller is started, in the middle of the traffic",
    Phase.RISE: "still more users; secondaries join",
    Phase.KILLED: "the controller was killed with -9; traffic goes on without it",
    Phase.RESUME: "the controller is back and takes up the group",
    Phase.PEAK: "all nodes serve",
    Phase.FALL: "users leave; secondaries wait for their long-lived connections, then go",
    Phase.QUIET: "the primary alone again",
    Phase.DETACHED: "the controller has given the bridge back",
    Phase.DONE: "the last connections end",
}
STATE_STYLES = {
    "active": "green",
    "standby": "blue",
    "warming": "bright_green",
    "draining": "yellow",
    "failed": "red",
    "gone": "dim",
}
_BLOCKS = " ▁▂▃▄▅▆▇█"
_BAR = 20
_LINE_EVERY_S = 2.0
_HISTORY = 48


class View(Protocol):
    """Shows moments as they come; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, moment: Moment, offered: float, events: Sequence[EventSeen]) -> None:
        """Show a moment; ``offered`` is what users ask for, in requests per second."""


def view(began_s: float, console: Console) -> View:
    """The view that suits where the output goes."""
    return Live(began_s, console) if console.is_terminal else Lines(began_s, console)


class Live:
    """A picture that is drawn over itself."""

    def __init__(self, began_s: float, console: Console) -> None:
        self._began_s = began_s
        self._live = RichLive(console=console, auto_refresh=False, transient=True)
        self._traffic: Traffic | None = None
        self._rates: deque[float] = deque(maxlen=_HISTORY)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, moment: Moment, offered: float, events: Sequence[EventSeen]) -> None:
        """Draw the moment."""
        if moment.traffic is not None:
            self._traffic = moment.traffic
            self._rates.append(moment.traffic.rate)
        picture = [
            _headline(moment, self._began_s),
            _nodes(moment, self._traffic),
            _clients(self._traffic, offered, tuple(self._rates)),
            _events(events[-8:], self._began_s),
        ]
        title = "sncontroller: one saturated VM becomes an elastic group"
        self._live.update(Panel(Group(*picture), title=title, box=box.ROUNDED), refresh=True)


class Lines:
    """A line for whatever is new."""

    def __init__(self, began_s: float, console: Console) -> None:
        self._began_s = began_s
        self._console = console
        self._phase = ""
        self._shown = 0
        self._last_s = 0.0
        self._traffic: Traffic | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def show(self, moment: Moment, offered: float, events: Sequence[EventSeen]) -> None:
        """Print the phase when it is new, new events, and now and then how things are."""
        self._traffic = moment.traffic or self._traffic
        if moment.phase != self._phase:
            self._phase = moment.phase
            self._print(moment.time_s, f"== {moment.phase}: {STORY[Phase(moment.phase)]}")
        for event in events[self._shown :]:
            self._print(event.time_s, f"   {event_line(event)}")
        self._shown = len(events)
        if moment.time_s - self._last_s >= _LINE_EVERY_S:
            self._last_s = moment.time_s
            self._print(moment.time_s, _line(moment, self._traffic, offered))

    def _print(self, time_s: float, text: str) -> None:
        line = f"{time_s - self._began_s:6.1f} s  {text}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def event_line(event: EventSeen) -> str:
    """An event in one line, without its time."""
    took = f" ({event.took_s:.1f} s)" if event.took_s is not None else ""
    return f"{event.node or 'group'} {event.kind}{took}: {event.reason}"


def _line(moment: Moment, traffic: Traffic | None, offered: float) -> str:
    nodes = moment.group.present if moment.group else ()
    shown = " ".join(f"{n.name}:{n.state}:{_percent(n.load)}:{n.slots}" for n in nodes)
    if traffic is None:
        return f"   {shown or 'no controller'}"
    return (
        f"   offered {offered:.0f}/s  served {traffic.rate:.0f}/s  "
        f"p50 {_ms(traffic, 0.5)}  p99 {_ms(traffic, 0.99)}  made {traffic.made_total}  "
        f"failed {traffic.failed_total}  moved {traffic.moved_total}  | {shown or 'no controller'}"
    )


def _headline(moment: Moment, began_s: float) -> Text:
    phase = Phase(moment.phase)
    clock = f"{moment.time_s - began_s:5.0f} s  "
    return Text.assemble((clock, "dim"), (phase.value, "bold cyan"), f"  {STORY[phase]}\n")


def _nodes(moment: Moment, traffic: Traffic | None) -> RenderableType:
    group = moment.group
    if group is None:
        return Text("no controller: the bridge forwards by the entries it has\n", style="dim")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    for column, justify in _COLUMNS:
        table.add_column(column, justify=justify)
    for node in group.present:
        table.add_row(*_node(node, traffic))
    address = ", ".join(group.addresses)
    link = "" if group.connected else "  (the switch is not connected)"
    title = f"group {group.name}  {address}  load {_percent(group.load)}  "
    return Group(Text(f"{title}wanted {group.wanted or '-'} nodes{link}", style="bold"), table)


_COLUMNS: tuple[tuple[str, Any], ...] = (
    ("node", "left"),
    ("state", "left"),
    ("load", "left"),
    ("slots", "right"),
    ("served/s", "right"),
    ("held", "right"),
)


def _node(node: NodeSeen, traffic: Traffic | None) -> tuple[RenderableType, ...]:
    answered = traffic.by_node.get(node.name, 0) / traffic.span_s if traffic else 0.0
    held = traffic.held.get(node.name, 0) if traffic else 0
    style = STATE_STYLES.get(node.state, "cyan")
    role = " (primary)" if node.role == "primary" else ""
    return (
        f"{node.name}{role}",
        Text(node.state, style=style),
        _bar(node.load),
        str(node.slots),
        f"{answered:.0f}",
        str(held),
    )


def _bar(load: float | None) -> Text:
    if load is None:
        return Text("-", style="dim")
    full = min(_BAR, round(load * _BAR))
    style = "red" if load > 0.9 else "yellow" if load > 0.7 else "green"
    rest = ("·" * (_BAR - full), "dim")
    return Text.assemble(("█" * full, style), rest, f" {_percent(load)}")


def _clients(traffic: Traffic | None, offered: float, rates: tuple[float, ...]) -> Text:
    if traffic is None:
        return Text("clients: none yet\n", style="dim")
    bad = "bold red" if traffic.failed_total or traffic.moved_total else "bold green"
    top = max((*rates, 1.0))
    spark = "".join(_BLOCKS[round(rate / top * (len(_BLOCKS) - 1))] for rate in rates)
    return Text.assemble(
        ("clients  ", "bold"),
        f"offered {offered:.0f}/s  served {traffic.rate:.0f}/s  "
        f"latency p50 {_ms(traffic, 0.5)}  p99 {_ms(traffic, 0.99)}\n",
        (f"served   {spark}\n", "cyan"),
        f"connections made {traffic.made_total}, held open {sum(traffic.held.values())}, ",
        (f"failed {traffic.failed_total}, moved {traffic.moved_total}\n", bad),
    )


def _events(events: Sequence[EventSeen], began_s: float) -> Text:
    lines = [f"{event.time_s - began_s:6.1f} s  {event_line(event)}" for event in events]
    return Text("\n".join(lines) or "no events yet", style="dim", no_wrap=True, overflow="ellipsis")


def _ms(traffic: Traffic, share: float) -> str:
    value = percentile_ms(traffic.latency, share)
    return "-" if value is None else f"{value:.0f} ms"


def _percent(load: float | None) -> str:
    return "-" if load is None else f"{load:.0%}"
