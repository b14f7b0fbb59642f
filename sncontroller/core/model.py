"""What an operator asks for: the configuration as checked, immutable values.

Owns the specification of a group and of the whole file, except the sections that a core module
defines for itself (``scaling``, ``balance``, ``health``, ``capacity``). No run-time state, no
files: ``sncontroller.config`` reads YAML into these.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    field_validator,
    model_validator,
)

from sncontroller.core.balance import BalanceSpec
from sncontroller.core.family import Address, Family, family_of, unnumbered
from sncontroller.core.health import HealthSpec
from sncontroller.core.health_spec import HostAddress
from sncontroller.core.layout import MAX_INDEX, MAX_ZONE, Index, Layout, Zone, node_mac
from sncontroller.core.load import CapacitySpec
from sncontroller.core.report import ManagementSpec, ReportSpec
from sncontroller.core.scaling import ScalingSpec

PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17}
Protocol = Literal["tcp", "udp"]
Mac = Annotated[
    str,
    Field(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$"),
    BeforeValidator(lambda raw: raw.lower() if isinstance(raw, str) else raw),
]


class Spec(BaseModel):
    """A section of the configuration: immutable, nothing unknown in it."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class PortRange(Spec):
    """Transport ports ``first..last``, both included."""

    first: int = Field(ge=1, le=65535)
    last: int = Field(ge=1, le=65535)

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, raw: Any) -> Any:
        if isinstance(raw, int) and not isinstance(raw, bool):
            return {"first": raw, "last": raw}
        if isinstance(raw, str):
            first, _, last = raw.partition("-")
            return {"first": first.strip(), "last": (last or first).strip()}
        return raw

    @model_validator(mode="after")
    def _ordered(self) -> PortRange:
        if self.first > self.last:
            raise ValueError(f"the range {self.first}-{self.last} is upside down")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, *_: Any) -> dict[str, Any]:
        """As it is written: ``80`` or ``8000-8010``."""
        one = {"type": "integer", "minimum": 1, "maximum": 65535}
        return {"anyOf": [one, {"type": "string", "pattern": r"^[0-9]+(\s*-\s*[0-9]+)?$"}]}

    def __str__(self) -> str:
        if (self.first, self.last) == (1, 65535):
            return "all ports"
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def overlaps(self, other: PortRange) -> bool:
        """Whether a port is in both."""
        return self.first <= other.last and other.first <= self.last

    def masks(self) -> Iterator[tuple[int, int]]:
        """The fewest ``(value, mask)`` pairs that cover exactly this range."""
        at = self.first
        while at <= self.last:
            size = at & -at
            while at + size - 1 > self.last:
                size >>= 1
            yield at, 0xFFFF & ~(size - 1)
            at += size


def _as_list(raw: Any) -> Any:
    return list(raw) if isinstance(raw, (list, tuple)) else [raw]


def _one_or_list(item: Any) -> BeforeValidator:
    """Accepts a single item where a list of them is wanted."""
    return BeforeValidator(_as_list, json_schema_input_type=item | tuple[item, ...])


class MatchSpec(Spec):
    """Which traffic is the group's."""

    address: HostAddress
    """The address that clients use, IPv4 or IPv6; all of the group's other ones are like it."""
    protocol: Annotated[tuple[Protocol, ...], _one_or_list(Protocol)] = ("tcp",)
    ports: Annotated[tuple[PortRange, ...], _one_or_list(PortRange)] = ()
    """Transport ports or ranges (``8000-8010``); empty for all."""
    ingress: Annotated[tuple[str, ...], _one_or_list(str)] = ()
    """Names of the OVS ports that clients come in by; empty for any."""
    vlan: int | None = Field(default=None, ge=1, le=4094)
    """VLAN tag that clients' packets carry in the switch; stripped before a node gets them."""

    @field_validator("address")
    @classmethod
    def _routable(cls, value: Address) -> Address:
        if isinstance(value, IPv6Address) and value.is_link_local:
            raise ValueError(f"{value} is link-local, so nodes cannot hold it on their loopback")
        return value

    @field_validator("protocol")
    @classmethod
    def _distinct(cls, value: tuple[Protocol, ...]) -> tuple[Protocol, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("name each protocol once: tcp, udp or [tcp, udp]")
        return value


class PrimarySpec(Spec):
    """The VM that offers the service today."""

    port: str | None = Field(default=None, min_length=1, max_length=15)
    """Name of its OVS port; found by ``mac`` when absent."""
    mac: Mac | None = None
    """Its hardware address; asked for by ARP or ND through its port when absent."""
    address: HostAddress | None = None
    """Its own address, where that is not the group's."""
    preempt: bool = True
    """Whether it is the primary again when it comes back, or joins as a secondary."""

    @model_validator(mode="after")
    def _named(self) -> PrimarySpec:
        if self.port is None and self.mac is None:
            raise ValueError("name the primary by its OVS port (port:) or hardware address (mac:)")
        return self


class DrainSpec(Spec):
    """When a node that takes no new flows may go."""

    deadline_s: float = Field(default=300, gt=0)
    """After this it goes, whatever flows it still has."""
    idle_s: float = Field(default=10, gt=0)
    """It goes when no packet of its flows was seen for this long."""


class PoolSpec(Spec):
    """Nodes that wait, started and healthy, for a surge that a boot would be too slow for."""

    warm: int = Field(default=0, ge=0, le=255)
    """How many nodes to keep ready out of rotation. ``scaling.max`` counts them, too."""


class PinSpec(Spec):
    """A flow's pin: its life (``learn`` and ``reactive``), and when it is looked at."""

    tcp_idle_s: int = Field(default=7200, ge=1, le=65535)
    udp_idle_s: int = Field(default=60, ge=1, le=65535)
    fin_idle_s: int = Field(default=10, ge=1, le=65535)
    limit: int = Field(default=100_000, ge=1)
    """Pins per node that ``learn`` may write; beyond it flows follow the slot table unpinned.

    Counted once per poll, so that what comes within one goes beyond it.
    """
    syn_settle_s: float | None = Field(default=130, ge=1)
    """So long after slots changed hands a SYN looks for its pin first (``conntrack``); then it goes
    straight to its slot. The default outlasts Linux' attempts to connect; ``null``: always.
    """


class HypervisorSpec(Spec):
    """Which plugin makes the secondaries; its own section is checked by the plugin's model."""

    plugin: str
    orphans: Literal["adopt", "destroy"] = "adopt"
    """What becomes of a node of ours at the hypervisor that neither switch nor controller knows."""
    boot_deadline_s: float = Field(default=300, gt=0)
    """A node that does not serve by then is destroyed; the next one waits longer each time."""
    call_deadline_s: float = Field(default=900, gt=0)
    """A call of the plugin that has not returned by then is ended, and made again later."""
    config: SerializeAsAny[BaseModel]

    @classmethod
    def own_keys(cls) -> frozenset[str]:
        """The keys of a ``hypervisor`` section that are not the plugin's."""
        return frozenset(cls.model_fields) - {"config"}


class SwitchSpec(Spec):
    """Where our entries live on a bridge that others use too."""

    entry_table: int = Field(default=0, ge=0, le=250)
    first_table: int = Field(default=200, ge=1, le=250)
    priority: int = Field(default=40000, ge=1, le=65000)
    onward: Literal["normal"] | int = "normal"
    """Where packets go on that leave us: ``normal``, or a table's number."""

    @model_validator(mode="after")
    def _apart(self) -> SwitchSpec:
        ours = range(self.first_table, self.first_table + 4)
        if self.entry_table in ours or self.onward in ours:
            tables = f"{ours[0]}-{ours[-1]}"
            raise ValueError(f"entry_table and onward must lie outside our tables {tables}")
        if isinstance(self.onward, int) and not self.entry_table < self.onward <= 254:
            raise ValueError("onward must be a table after entry_table, 254 at most")
        return self

    @property
    def layout(self) -> Layout:
        onward = None if self.onward == "normal" else int(self.onward)
        return Layout(self.entry_table, self.first_table, self.priority, onward)


class GroupSpec(Spec):
    """One service node group."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")
    id: int | None = Field(default=None, ge=1, le=MAX_ZONE)
    """Its number on the switch (conntrack zone, cookies); derived from the name when absent."""
    bridge: str | None = None
    """The bridge it lives on; the one that has the primary's port when absent."""
    match: MatchSpec
    """Which traffic is the group's."""
    primary: PrimarySpec
    """The VM that offers the service today."""
    arp: Literal["primary", "switch"] = "primary"
    """Who answers ARP, or ND, for the address: the primary (its own IP) or the switch (a separate
    VIP)."""
    mode: Literal["vip"] = "vip"
    delivery: Literal["mac"] = "mac"
    pinning: Literal["conntrack", "learn", "reactive"] = "conntrack"
    placement: Literal["primary"] = "primary"
    pin: PinSpec = PinSpec()
    capacity: CapacitySpec | None = None
    """What one node can do: the values that are load 1.0."""
    management: ManagementSpec = ManagementSpec()
    """Where nodes are reached apart from the group's address."""
    reports: Annotated[tuple[ReportSpec, ...], _one_or_list(ReportSpec)] = ()
    """What nodes report about themselves."""
    balance: BalanceSpec = BalanceSpec()
    """How new flows are spread over the nodes."""
    scaling: ScalingSpec
    """How many nodes there shall be."""
    health: HealthSpec
    """How a node is asked whether it serves; ``kind: none`` asks nothing."""
    pool: PoolSpec = PoolSpec()
    """The warm pool; not the hypervisor plugin of that name, which brings ready-made VMs."""
    drain: DrainSpec = DrainSpec()
    """When a node that takes no new flows may go."""
    hypervisor: HypervisorSpec | None = None
    """Who makes the secondaries."""

    @property
    def zone(self) -> Zone:
        """The group's number, 1..65535."""
        return Zone(self.id or zlib.crc32(self.name.encode()) % MAX_ZONE + 1)

    @property
    def has_straight_way(self) -> bool:
        """Whether a SYN goes straight to its slot while slots are at rest.

        Not with all ports in the group: its nodes begin connections themselves, and a SYN that
        meets a node's own on its way belongs to that node.
        """
        tracked = self.pinning == "conntrack" and "tcp" in self.match.protocol
        return tracked and bool(self.match.ports) and self.pin.syn_settle_s is not None

    @property
    def address(self) -> str:
        """The address that clients use."""
        return str(self.match.address)

    @property
    def family(self) -> Family:
        """Whether the group's packets are IPv4 or IPv6."""
        return family_of(self.match.address)

    @property
    def probe_source(self) -> Address:
        """Where the controller's questions come from."""
        return self.health.source or unnumbered(self.family, node_mac(self.zone, Index(0)))


class Config(Spec):
    """The whole configuration file."""

    controller: str = Field(default="sncontroller", pattern=r"^[A-Za-z0-9._-]{1,63}$")
    """Tag on everything we create; two controllers that share a hypervisor need different ones."""
    poll_interval_s: float = Field(default=1.0, ge=0.1, le=60)
    state_dir: str | None = Field(default=None, pattern=r"^/")
    """Where is kept what groups have learnt; without it a controller's end costs that."""
    switch: SwitchSpec = SwitchSpec()
    groups: tuple[GroupSpec, ...] = ()

    def group(self, name: str) -> GroupSpec | None:
        """The group of that name, if there is one."""
        return next((g for g in self.groups if g.name == name), None)


__all__ = ["MAX_INDEX", "Config", "GroupSpec", "MatchSpec", "PrimarySpec"]
