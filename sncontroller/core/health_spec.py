"""The ``health:`` section of a group: what is asked of a node, how often, and what counts.

Owns the specification and what follows from it alone: timeouts, accepted statuses, whom a probe
asks for. What results say about a node is in ``health.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, Self

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from sncontroller.core.family import Address
from sncontroller.core.layout import MAX_INDEX

_SPARE_S = 0.1
_MAX_DEFAULT_TIMEOUT_S = 1.0


class Kind(Enum):
    """What a probe asks; what each answer proves is in docs/health.md."""

    NONE = "none"
    ARP = "arp"
    ND = "nd"
    """Neighbour discovery: what ARP is for IPv6."""
    ICMP = "icmp"
    TCP = "tcp"
    UDP = "udp"
    HTTP = "http"
    BFD = "bfd"
    """Nothing by us: the switch and the node keep a BFD session, the port's liveness tells."""


class Via(Enum):
    """The way that probes take."""

    SWITCH = "switch"
    """Out of the node's own port, and back."""
    CONTROLLER = "controller"
    """Over a management network, from the controller's own host."""


_HTTP = frozenset({"port", "path", "host", "expect_status"})
_FIELDS: Mapping[tuple[Kind, Via], tuple[frozenset[str], frozenset[str]]] = {
    (Kind.NONE, Via.SWITCH): (frozenset(), frozenset()),
    (Kind.BFD, Via.SWITCH): (frozenset(), frozenset()),
    (Kind.ARP, Via.SWITCH): (frozenset({"target"}), frozenset({"source", "primary_target"})),
    (Kind.ND, Via.SWITCH): (frozenset({"target"}), frozenset({"source", "primary_target"})),
    (Kind.ICMP, Via.SWITCH): (frozenset({"source"}), frozenset()),
    (Kind.TCP, Via.SWITCH): (frozenset({"source"}), frozenset({"port"})),
    (Kind.UDP, Via.SWITCH): (frozenset({"source", "payload"}), frozenset({"port", "expect"})),
    (Kind.HTTP, Via.SWITCH): (frozenset({"source"}), _HTTP),
    (Kind.TCP, Via.CONTROLLER): (frozenset(), frozenset({"source", "port"})),
    (Kind.HTTP, Via.CONTROLLER): (frozenset(), frozenset({"source"}) | _HTTP),
}
"""Per kind and way the fields of its own: required ones, optional ones."""


def _bytes(text: Any) -> Any:
    is_hex = isinstance(text, str) and text.startswith("hex:")
    return bytes.fromhex(text[4:]) if is_hex else text


def _unicast(address: Address) -> Address:
    # Of IPv6 what is reserved has IPv4 addresses in other clothes, too, with two spellings each.
    zoned = isinstance(address, IPv6Address) and address.scope_id is not None
    nobody = address.is_loopback or address.is_unspecified or address.is_reserved
    if address.is_multicast or nobody or zoned:
        raise ValueError(f"{address} cannot be a host's address on a network")
    return address


def _target_rule(rule: str) -> str:
    base, plus, _ = rule.partition("+")
    _unicast(_unicast(ip_address(base)) + (MAX_INDEX if plus else 0))
    return rule


HostAddress = Annotated[IPv4Address | IPv6Address, AfterValidator(_unicast)]
WireBytes = Annotated[
    bytes,
    BeforeValidator(_bytes),
    Field(max_length=1400),
    PlainSerializer(lambda value: f"hex:{value.hex()}", return_type=str),
]
"""Written as text, or as ``hex:0102ff``."""
_STATUS = re.compile(r"\s*([1-5]\d\d)\s*(?:-\s*([1-5]\d\d)\s*)?")


def _status(raw: Any) -> int | str:
    """A status or a range of them, in one spelling."""
    match = _STATUS.fullmatch(str(raw))
    if match is None or isinstance(raw, (bool, float)):
        got = "empty" if raw is None else repr(raw)
        wanted = "an HTTP status within 100-599, as 200, a range of them, as 200-299, or a list"
        raise ValueError(f"must be {wanted}, not {got}")
    first, last = match.groups()
    if last is None:
        return int(first)
    if first > last:
        raise ValueError(f"the range {first}-{last} is upside down")
    return f"{first}-{last}"


_RANGE = Annotated[str, Field(pattern=r"^\s*[1-5]\d\d\s*-\s*[1-5]\d\d\s*$")]
Status = Annotated[
    int | str,
    BeforeValidator(_status, json_schema_input_type=Annotated[int, Field(ge=100, le=599)] | _RANGE),
]
_listed = BeforeValidator(lambda value: [value] if isinstance(value, (int, str)) else value)
Statuses = Annotated[tuple[Status, ...], _listed]
TargetRule = Annotated[
    str, Field(pattern=r"^[0-9a-fA-F.:]+(\+index)?$"), AfterValidator(_target_rule)
]
"""An address, or ``A+index``: A plus the node's index."""


BfdOption = Annotated[str, Field(pattern=r"^[a-z_]+$")]


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


class BfdSpec(_Spec):
    """Bidirectional forwarding detection (RFC 5880) on the nodes' ports, spoken by Open vSwitch.

    With ``ovsdb`` the controller turns it on; without, whoever makes the ports does.
    """

    ovsdb: str | None = Field(default=None, pattern=r"^(unix|tcp|ssl):")
    """The database of the nodes' switch, as ``unix:/run/openvswitch/db.sock``."""
    min_rx_ms: int = Field(default=300, ge=10, le=60_000)
    """The switch wants a node's packets no closer together than this."""
    min_tx_ms: int = Field(default=300, ge=10, le=60_000)
    """The switch sends its own no closer together than this."""
    multiplier: int = Field(default=3, ge=1, le=255)
    """So many intervals without a packet from the switch, and the node calls the session down."""
    options: dict[BfdOption, Annotated[str, Field(pattern=r"^[0-9A-Za-z.:]+$")]] = Field(
        default_factory=dict
    )
    """More keys of the interface's ``bfd`` column, as ``bfd_dst_ip``."""

    @property
    def column(self) -> Mapping[str, str]:
        """What an interface's ``bfd`` column must hold."""
        return {
            "enable": "true",
            "min_rx": str(self.min_rx_ms),
            "min_tx": str(self.min_tx_ms),
            "mult": str(self.multiplier),
            **self.options,
        }

    @pydantic.model_validator(mode="after")
    def _set_by_whom(self) -> Self:
        given = self.model_fields_set - {"ovsdb"}
        if self.ovsdb is None and given:
            names = ", ".join(sorted(given))
            raise ValueError(f"{names}: only with ovsdb; without it you set BFD at the ports")
        return self


class HealthSpec(_Spec):
    """The ``health:`` section of a group: what is asked of a node, how often, and what counts."""

    kind: Kind = Kind.NONE
    via: Via = Via.SWITCH
    """The way that probes take: through the switch, or the controller's own network."""
    source: HostAddress | None = Field(default=None, validate_default=True)
    """The address probes come from: in nobody's use, and routed by the nodes over their port."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Where the service is asked; the group's first port when not given."""
    path: str = Field(default="/", pattern=r"^/[!-~]*$", max_length=512)
    host: str | None = Field(default=None, pattern=r"^[!-~]+$", max_length=255)
    """The ``Host`` header; the group's address when not given."""
    expect_status: Statuses = ()
    """Good statuses: one, a range (``200-299``) or a list; every 2xx and 3xx when not given."""
    payload: WireBytes | None = Field(default=None, validate_default=True)
    """What a UDP probe sends."""
    expect: WireBytes = b""
    """What a UDP reply must contain; empty accepts any reply."""
    target: TargetRule | None = Field(default=None, validate_default=True)
    """Whom an ARP or ND probe asks for: an address the nodes have on the interface itself."""
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
    bfd: BfdSpec | None = None
    """The BFD session between switch and node that must be up, whatever the kind."""

    @property
    def asks(self) -> bool:
        """Whether probes are sent."""
        return self.kind not in (Kind.NONE, Kind.BFD)

    @property
    def heeds_liveness(self) -> bool:
        """Whether a port must be live (OFPPS_LIVE), and not only up."""
        return self.kind is Kind.BFD or self.bfd is not None

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

    @property
    def latency_kept_s(self) -> float:
        """How long a measured latency counts, in seconds."""
        return 3 * (self.interval_s + self.probe_timeout_s)

    def accepts(self, status: int) -> bool:
        """Whether an HTTP status code is a good one."""
        good = self.expect_status or ("200-399",)
        return any(_within(status, accepted) for accepted in good)

    def target_of(self, index: int) -> Address:
        """The address for which node ``index`` must answer; only for kinds ``arp`` and ``nd``."""
        if index == 1 and self.primary_target is not None:
            return self.primary_target
        base, plus, _ = (self.target or "0.0.0.0").partition("+")
        return ip_address(base) + (index if plus else 0)

    @pydantic.field_validator("timeout_s")
    @classmethod
    def _one_at_a_time(cls, value: float | None, info: pydantic.ValidationInfo) -> float | None:
        if value is not None and value > info.data.get("interval_s", value):
            raise ValueError("must not exceed interval_s: a node is asked one thing at a time")
        return value

    @pydantic.field_validator("via")
    @classmethod
    def _has_a_way(cls, value: Via, info: pydantic.ValidationInfo) -> Via:
        kind = info.data.get("kind")
        if isinstance(kind, Kind) and (kind, value) not in _FIELDS:
            raise ValueError(
                f"{value.value} does not fit kind {kind.value}; it is for tcp and http"
            )
        return value

    @pydantic.field_validator(*sorted(frozenset().union(*(a | b for a, b in _FIELDS.values()))))
    @classmethod
    def _fits_kind(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        kind, via = info.data.get("kind"), info.data.get("via")
        if not isinstance(kind, Kind) or not isinstance(via, Via):  # is itself reported as wrong
            return value
        required, optional = _FIELDS[kind, via]
        if value is None and info.field_name in required:
            raise ValueError(f"is required for kind {kind.value}")
        if value is not None and info.field_name not in required | optional:
            raise ValueError(f"does not belong to kind {kind.value}")
        return value


def _within(status: int, accepted: int | str) -> bool:
    if isinstance(accepted, int):
        return status == accepted
    first, _, last = accepted.partition("-")
    return int(first) <= status <= int(last)
