"""What probe results say about a node: the ``health:`` section, verdicts, damping, the breaker.

Owns the specification of a group's health check, the per-node ``Health`` value and the rules that
turn results into verdicts. It sends nothing and knows no packet (``probe.py``), and it takes no
node out of rotation: it says which nodes are fit to serve, the engine acts.

Failing is never delayed: damping (after BGP route-flap damping, RFC 2439) holds back only the way
*up*. The breaker bounds what probes alone may take away; a port that is down is a fact from the
switch and is not subject to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address
from math import log2
from typing import Annotated, Any, Self

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from sncontroller.core.layout import MAX_INDEX

_SPARE_S = 0.1
_MAX_DEFAULT_TIMEOUT_S = 1.0


class Kind(Enum):
    """What a probe asks; what each answer proves is in docs/health.md."""

    NONE = "none"
    ARP = "arp"
    ICMP = "icmp"
    TCP = "tcp"
    UDP = "udp"
    HTTP = "http"


_FIELDS: Mapping[Kind, tuple[frozenset[str], frozenset[str]]] = {
    Kind.NONE: (frozenset(), frozenset()),
    Kind.ARP: (frozenset({"target"}), frozenset({"source", "primary_target"})),
    Kind.ICMP: (frozenset({"source"}), frozenset()),
    Kind.TCP: (frozenset({"source"}), frozenset({"port"})),
    Kind.UDP: (frozenset({"source", "payload"}), frozenset({"port", "expect"})),
    Kind.HTTP: (frozenset({"source"}), frozenset({"port", "path", "host", "expect_status"})),
}
"""Per kind the fields of its own: required ones, optional ones."""


def _bytes(text: Any) -> Any:
    is_hex = isinstance(text, str) and text.startswith("hex:")
    return bytes.fromhex(text[4:]) if is_hex else text


def _unicast(address: IPv4Address) -> IPv4Address:
    if address.is_multicast or address.is_loopback or address.is_unspecified or address.is_reserved:
        raise ValueError(f"{address} cannot be a host's address on a network")
    return address


def _target_rule(rule: str) -> str:
    base, plus, _ = rule.partition("+")
    _unicast(_unicast(IPv4Address(base)) + (MAX_INDEX if plus else 0))
    return rule


HostAddress = Annotated[IPv4Address, AfterValidator(_unicast)]
WireBytes = Annotated[
    bytes,
    BeforeValidator(_bytes),
    Field(max_length=1400),
    PlainSerializer(lambda value: f"hex:{value.hex()}", return_type=str),
]
"""Written as text, or as ``hex:0102ff``."""
Status = Annotated[int, Field(ge=100, le=599)]
_listed = BeforeValidator(lambda value: [value] if isinstance(value, int) else value)
Statuses = Annotated[tuple[Status, ...], _listed]
TargetRule = Annotated[str, Field(pattern=r"^[0-9.]+(\+index)?$"), AfterValidator(_target_rule)]
"""An address, or ``A+index``: A plus the node's index."""


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DampingSpec(_Spec):
    """Flap damping: each fall adds ``penalty``, which halves every ``half_life_s``.

    Above ``suppress`` the node stays out although it answers, until the penalty is below
    ``reuse``, at the longest ``max_suppress_s`` after its last fall. ``penalty: 0`` turns it off.
    With the defaults the third fall within 40 s suppresses, for 40 to 60 s.
    """

    penalty: float = Field(default=1000.0, ge=0)
    half_life_s: float = Field(default=30.0, gt=0)
    suppress: float = Field(default=2000.0, gt=0)
    reuse: float = Field(default=750.0, gt=0)
    max_suppress_s: float = Field(default=120.0, gt=0)

    @property
    def ceiling(self) -> float:
        """The penalty that takes exactly ``max_suppress_s`` to decay to ``reuse``."""
        return float(self.reuse * 2.0 ** min(self.max_suppress_s / self.half_life_s, 64.0))

    @pydantic.model_validator(mode="after")
    def _can_suppress(self) -> Self:
        if self.reuse >= self.suppress:
            raise ValueError(f"reuse ({self.reuse:g}) must be below suppress ({self.suppress:g})")
        if self.ceiling < self.suppress:
            capped = f"max_suppress_s caps the penalty at {self.ceiling:.0f}"
            raise ValueError(f"{capped}, below suppress: nothing would ever be damped")
        return self


class BreakerSpec(_Spec):
    """Nothing is taken out when more than ``share`` of the nodes look dead within ``window_s``.

    ``share: 1`` leaves only the rule that somebody must remain.
    """

    share: float = Field(default=0.5, gt=0, le=1)
    window_s: float = Field(default=5.0, ge=0)


class HealthSpec(_Spec):
    """The ``health:`` section of a group: what is asked of a node, how often, and what counts."""

    kind: Kind = Kind.NONE
    source: HostAddress | None = Field(default=None, validate_default=True)
    """The address probes come from: in nobody's use, and routed by the nodes over their port."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Where the service is asked; the group's first port when not given."""
    path: str = Field(default="/", pattern=r"^/[!-~]*$", max_length=512)
    host: str | None = Field(default=None, pattern=r"^[!-~]+$", max_length=255)
    """The ``Host`` header; the group's address when not given."""
    expect_status: Statuses = ()
    """One good status or several; every 2xx and 3xx when not given."""
    payload: WireBytes | None = Field(default=None, validate_default=True)
    """What a UDP probe sends."""
    expect: WireBytes = b""
    """What a UDP reply must contain; empty accepts any reply."""
    target: TargetRule | None = Field(default=None, validate_default=True)
    """Whom an ARP probe asks for: an address the nodes have on the interface itself."""
    primary_target: HostAddress | None = None
    """The same for node 1, when it does not fit in with the others."""
    interval_s: float = Field(default=1.0, ge=0.1, le=3600)
    """The longest time from one good probe's start to the next one's start."""
    timeout_s: float | None = Field(default=None, ge=0.01, le=3600)
    rise: int = Field(default=2, ge=1, le=100)
    fall: int = Field(default=3, ge=1, le=100)
    jitter: float = Field(default=0.1, ge=0, le=0.5)
    """By which share of itself an interval is shortened at random."""
    damping: DampingSpec = DampingSpec()
    breaker: BreakerSpec = BreakerSpec()

    @property
    def probe_timeout_s(self) -> float:
        """How long one probe waits, in seconds; a failing node is asked again this often.

        The default is the longest, up to 1 s, that finds a silent node within ``interval_s * fall``
        plus 0.1 s: the time to the first bad probe's start is at most ``interval_s``, and then
        ``fall`` timeouts follow each other.
        """
        if self.timeout_s is not None:
            return self.timeout_s
        longest = ((self.fall - 1) * self.interval_s + _SPARE_S) / self.fall
        return min(longest, self.interval_s, _MAX_DEFAULT_TIMEOUT_S)

    def accepts(self, status: int) -> bool:
        """Whether an HTTP status code is a good one."""
        return status in (self.expect_status or range(200, 400))

    def arp_target(self, index: int) -> IPv4Address:
        """The address node ``index`` must answer ARP for; only for kind ``arp``."""
        if index == 1 and self.primary_target is not None:
            return self.primary_target
        base, plus, _ = (self.target or "0.0.0.0").partition("+")
        return IPv4Address(base) + (index if plus else 0)

    @pydantic.field_validator("timeout_s")
    @classmethod
    def _one_at_a_time(cls, value: float | None, info: pydantic.ValidationInfo) -> float | None:
        if value is not None and value > info.data.get("interval_s", value):
            raise ValueError("must not exceed interval_s: a node is asked one thing at a time")
        return value

    @pydantic.field_validator(*sorted(frozenset().union(*(a | b for a, b in _FIELDS.values()))))
    @classmethod
    def _fits_kind(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        kind = info.data.get("kind")
        if not isinstance(kind, Kind):  # is itself reported as wrong
            return value
        required, optional = _FIELDS[kind]
        if value is None and info.field_name in required:
            raise ValueError(f"is required for kind {kind.value}")
        if value is not None and info.field_name not in required | optional:
            raise ValueError(f"does not belong to kind {kind.value}")
        return value


class Verdict(Enum):
    """What is known of a node; only UP may serve, unless the breaker holds it."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
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


def initial(spec: HealthSpec, now: float) -> Health:
    """The health of a node nothing is known of; UP at once where nothing is probed."""
    return _judged(spec, Health(service=_unprobed(spec), since_s=now, penalty_at_s=now), now)


def adopted(spec: HealthSpec, now: float) -> Health:
    """The health of a node found in rotation at a start: trusted until probes say otherwise."""
    return _judged(spec, replace(initial(spec, now), service=Verdict.UP), now)


def observe(spec: HealthSpec, health: Health, ok: bool, detail: str, now: float) -> Health:
    """The health after one probe's result. Results that come while the link is down are void."""
    if not health.link_up:
        return health
    good, bad = (health.good + 1, 0) if ok else (0, health.bad + 1)
    health = replace(_decayed(spec, health, now), good=good, bad=bad, detail=detail)
    if good >= spec.rise:
        health = replace(health, service=Verdict.UP)
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
        health = replace(health, link_up=True, service=_unprobed(spec), detail="")
    else:
        health = replace(_fallen(spec, health, now), link_up=False)
    return _judged(spec, replace(health, good=0, bad=0), now)


def aged(spec: HealthSpec, health: Health, now: float) -> Health:
    """The health after time alone has passed: damping ends without a probe, too (kind none)."""
    return _judged(spec, _decayed(spec, health, now), now)


def _unprobed(spec: HealthSpec) -> Verdict:
    return Verdict.UP if spec.kind is Kind.NONE else Verdict.UNKNOWN


def _decayed(spec: HealthSpec, health: Health, now: float) -> Health:
    elapsed_s = max(0.0, now - health.penalty_at_s)
    penalty: float = health.penalty * 0.5 ** (elapsed_s / spec.damping.half_life_s)
    return replace(
        health,
        penalty=penalty,
        penalty_at_s=max(now, health.penalty_at_s),
        suppressed=health.suppressed and penalty > spec.damping.reuse,
    )


def _fallen(spec: HealthSpec, health: Health, now: float) -> Health:
    if health.service is not Verdict.UP:
        return replace(health, service=Verdict.DOWN)
    penalty = min(health.penalty + spec.damping.penalty, spec.damping.ceiling)
    return replace(
        health,
        service=Verdict.DOWN,
        falls=health.falls + 1,
        penalty=penalty,
        suppressed=health.suppressed or penalty >= spec.damping.suppress,
        fell_at_s=now if health.verdict is Verdict.UP else health.fell_at_s,
    )


def _judged(spec: HealthSpec, health: Health, now: float) -> Health:
    verdict = Verdict.DOWN if health.damped or not health.link_up else health.service
    since_s = health.since_s if verdict is health.verdict else now
    health = replace(health, verdict=verdict, since_s=since_s)
    return replace(health, reason=_reason(spec, health))


def _reason(spec: HealthSpec, health: Health) -> str:
    if not health.link_up:
        return "its port is down"
    if health.damped:
        wait_s = log2(health.penalty / spec.damping.reuse) * spec.damping.half_life_s
        return f"answers, but fell {health.falls} times: held back for {wait_s:.0f} s more"
    if spec.kind is Kind.NONE:
        return "not probed (kind none)"
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
