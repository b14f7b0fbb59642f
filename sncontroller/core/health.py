"""What probe results say about a node: verdicts, damping, the breaker.

Owns the per-node ``Health`` value and the rules that turn results into verdicts; the ``health:``
section itself is in ``health_spec.py``. It sends nothing and knows no packet (``probe.py``), and it
takes no node out of rotation: it says which nodes are fit to serve, the engine acts.

Failing is never delayed: damping (after BGP route-flap damping, RFC 2439) holds back only the way
*up*. The breaker bounds what probes alone may take away; a port that is down is a fact from the
switch and is not subject to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from math import log2

from sncontroller.core.health_spec import BreakerSpec, DampingSpec, HealthSpec, Kind
from sncontroller.core.values import changed

__all__ = [
    "BreakerSpec",
    "BreakerState",
    "DampingSpec",
    "Health",
    "HealthSpec",
    "Kind",
    "Verdict",
    "adopted",
    "aged",
    "breaker",
    "fit",
    "initial",
    "link_changed",
    "observe",
]


class Verdict(Enum):
    """What is known of a node; only UP may serve, unless the breaker holds it."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)  # no slots: ``values.changed``
class Health:
    """All that is known of one node's health. A new node is ``initial(spec, now)``."""

    verdict: Verdict = Verdict.UNKNOWN
    """What the engine acts on."""
    reason: str = "not probed yet"
    since_s: float = 0.0
    """Of ``verdict``."""
    service: Verdict = Verdict.UNKNOWN
    """What the probes alone say, before damping and link state."""
    link_up: bool = True
    good: int = 0
    bad: int = 0
    """Good and bad probes in a row; one of them is 0."""
    detail: str = ""
    """What the last probe saw."""
    fell_at_s: float | None = None
    """When the verdict last went from UP to DOWN."""
    falls: int = 0
    """How often the service stopped answering or lost its link."""
    penalty: float = 0.0
    penalty_at_s: float = 0.0
    suppressed: bool = False

    @property
    def damped(self) -> bool:
        """Whether the node answers and is out only because it flapped."""
        return self.link_up and self.suppressed and self.service is Verdict.UP

    @property
    def is_sound(self) -> bool:
        """Whether it serves and not even its last probe was bad."""
        return self.verdict is Verdict.UP and not self.bad


def initial(spec: HealthSpec, now: float) -> Health:
    """The health of a node nothing is known of; UP at once where nothing is probed."""
    return _judged(spec, Health(service=_unprobed(spec), since_s=now, penalty_at_s=now), now)


def adopted(spec: HealthSpec, now: float) -> Health:
    """The health of a node found in rotation at a start: trusted until probes say otherwise."""
    return _judged(spec, changed(initial(spec, now), service=Verdict.UP), now)


def observe(spec: HealthSpec, health: Health, ok: bool, detail: str, now: float) -> Health:
    """The health after one probe's result. Results that come while the link is down are void."""
    if not health.link_up:
        return health
    good, bad = (health.good + 1, 0) if ok else (0, health.bad + 1)
    health = changed(_decayed(spec, health, now), good=good, bad=bad, detail=detail)
    if good >= spec.rise:
        health = changed(health, service=Verdict.UP)
    elif bad >= spec.fall:
        health = _fallen(spec, health, now)
    return _judged(spec, health, now)


def link_changed(spec: HealthSpec, health: Health, up: bool, now: float) -> Health:
    """The health after the switch reported the node's port up or down; a repetition is no event.

    Down is DOWN at once. Up again starts from UNKNOWN: the service must answer first.
    """
    if up == health.link_up:
        return health
    health = _decayed(spec, health, now)
    if up:
        health = changed(health, link_up=True, service=_unprobed(spec), detail="")
    else:
        health = changed(_fallen(spec, health, now), link_up=False)
    return _judged(spec, changed(health, good=0, bad=0), now)


def aged(spec: HealthSpec, health: Health, now: float) -> Health:
    """The health after time alone has passed: damping ends without a probe, too (kind none).

    Nothing else in it depends on time: a penalty that suppresses nothing fades when it is needed.
    """
    if not health.suppressed:
        return health
    return _judged(spec, _decayed(spec, health, now), now)


def _unprobed(spec: HealthSpec) -> Verdict:
    return Verdict.UNKNOWN if spec.asks else Verdict.UP


def _decayed(spec: HealthSpec, health: Health, now: float) -> Health:
    elapsed_s = max(0.0, now - health.penalty_at_s)
    penalty: float = health.penalty * 0.5 ** (elapsed_s / spec.damping.half_life_s)
    return changed(
        health,
        penalty=penalty,
        penalty_at_s=max(now, health.penalty_at_s),
        suppressed=health.suppressed and penalty > spec.damping.reuse,
    )


def _fallen(spec: HealthSpec, health: Health, now: float) -> Health:
    if health.service is not Verdict.UP:
        return changed(health, service=Verdict.DOWN)
    penalty = min(health.penalty + spec.damping.penalty, spec.damping.ceiling)
    return changed(
        health,
        service=Verdict.DOWN,
        falls=health.falls + 1,
        penalty=penalty,
        suppressed=health.suppressed or penalty >= spec.damping.suppress,
        fell_at_s=now if health.verdict is Verdict.UP else health.fell_at_s,
    )


def _judged(spec: HealthSpec, health: Health, now: float) -> Health:
    verdict = Verdict.DOWN if health.damped or not health.link_up else health.service
    if verdict is not health.verdict:
        health = changed(health, verdict=verdict, since_s=now)
    reason = _reason(spec, health)
    return health if reason == health.reason else changed(health, reason=reason)


def _reason(spec: HealthSpec, health: Health) -> str:
    if not health.link_up:
        return "its port is down"
    if health.damped:
        wait_s = log2(health.penalty / spec.damping.reuse) * spec.damping.half_life_s
        return f"answers, but fell {health.falls} times: held back for {wait_s:.0f} s more"
    if not spec.asks:
        return f"not probed (kind {spec.kind.value})"
    if health.service is Verdict.UP and not health.bad:
        return f"answers: {health.detail}" if health.good else "was in rotation, not probed yet"
    if health.bad:
        most = f" of {spec.fall}" if health.bad < spec.fall else ""
        return f"{health.bad}{most} probes failed, last: {health.detail}"
    if health.good:
        return f"{health.good} of {spec.rise} good probes, last: {health.detail}"
    return "not probed yet"


@dataclass(frozen=True, slots=True)
class BreakerState:
    """Which nodes serve although their verdict is DOWN, and why; open means that there are any."""

    held: frozenset[int] = frozenset()
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether the breaker holds anything; a change of this is to be said loudly."""
        return bool(self.held)


def breaker(
    spec: HealthSpec, healths: Mapping[int, Health], in_rotation: Collection[int], now: float
) -> BreakerState:
    """The nodes to keep in rotation, or to put back, although they look dead.

    ``healths`` are those of all nodes that may be in rotation (not the draining and gone ones), by
    index; ``in_rotation`` are the nodes that have slots now. Level-triggered: call it whenever one
    of them changed and let ``fit`` be in rotation. Nodes with a dead link are never held.
    """
    linked = {node for node, health in healths.items() if health.link_up}
    crowd = {node for node in linked if node in in_rotation or _counts(spec, healths[node], now)}
    dead = {node for node in crowd if healths[node].service is Verdict.DOWN}
    damped = {node for node in crowd if healths[node].damped}
    held: set[int] = set()
    if _too_many(spec, dead, crowd):
        held |= dead
    if _too_many(spec, dead | damped, crowd):
        held |= damped
    if not any(health.verdict is Verdict.UP for health in healths.values()):
        held |= {node for node in linked if healths[node].damped}
    return BreakerState(frozenset(held), _why_held(spec, held, dead, crowd))


def fit(healths: Mapping[int, Health], state: BreakerState) -> frozenset[int]:
    """The nodes that may be in rotation: those that are UP, and those the breaker holds."""
    return state.held | {n for n, health in healths.items() if health.verdict is Verdict.UP}


def _counts(spec: HealthSpec, health: Health, now: float) -> bool:
    """Whether a node out of rotation is counted: it may come in, or has only just been lost."""
    if health.verdict is Verdict.UP:
        return True
    return health.fell_at_s is not None and now - health.fell_at_s <= spec.breaker.window_s


def _too_many(spec: HealthSpec, lost: set[int], crowd: set[int]) -> bool:
    return bool(lost) and (lost == crowd or len(lost) > spec.breaker.share * len(crowd) + 1e-9)


def _why_held(spec: HealthSpec, held: set[int], dead: set[int], crowd: set[int]) -> str:
    if not held:
        return ""
    names = ", ".join(str(node) for node in sorted(held))
    if not held & dead:
        return f"held in rotation: {names}; flapping, but answering, and too few others serve"
    if len(crowd) == 1:
        return f"held in rotation: {names}; looks dead, but no other node could serve"
    many = f"{len(dead)} of {len(crowd)} nodes look dead, more than {spec.breaker.share:.0%}"
    return f"held in rotation: {names}; {many}: nothing is taken out, check the probes' path"
