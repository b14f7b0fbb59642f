"""What must hold between the sections of a group and between groups.

Owns the rules that no single section can know. Each rule is a function of typed values that yields
what is wrong and what to do; none of them looks at a switch.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import combinations

from sncontroller.config.text import Key
from sncontroller.config.wording import Found
from sncontroller.core.balance import EXACT, BalanceKind
from sncontroller.core.family import IPV6, family_of
from sncontroller.core.health_spec import Kind as Probe
from sncontroller.core.health_spec import Via
from sncontroller.core.layout import MAX_ZONE
from sncontroller.core.model import GroupSpec, PortRange
from sncontroller.core.scaling import Policy

_PROBES_OF_A_PORT = (Probe.TCP, Probe.UDP, Probe.HTTP)
_OUR_MACS = "02:53:"


def contradictions(groups: Iterable[GroupSpec]) -> tuple[Found, ...]:
    """Everything in these groups that contradicts itself, by path below the file's root."""
    everyone = tuple(groups)
    alone = (found for spec in everyone for rule in _ALONE for found in _under(spec, rule(spec)))
    between = (
        found
        for rule, shared in _BETWEEN
        for first, second in _pairs(everyone, shared)
        for found in _under(second, rule(first, second))
    )
    return (*alone, *between, *_probes_from_addresses(everyone))


def _pairs(
    groups: tuple[GroupSpec, ...], shared: Callable[[GroupSpec], Iterable[Hashable]]
) -> Iterator[tuple[GroupSpec, GroupSpec]]:
    """The pairs that have something in common, in the order of the file, each once.

    Most groups of a large file have nothing: comparing each with each took seconds.
    """
    holders: dict[Hashable, list[int]] = defaultdict(list)
    for nth, spec in enumerate(groups):
        for value in shared(spec):
            holders[value].append(nth)
    pairs = {pair for nths in holders.values() for pair in combinations(nths, 2)}
    return ((groups[first], groups[second]) for first, second in sorted(pairs))


def _under(spec: GroupSpec, found: Iterable[Found]) -> Iterator[Found]:
    for keys, message in found:
        yield ("groups", spec.name, *keys), message


# One group --------------------------------------------------------------------------------------


def _needs_hypervisor(spec: GroupSpec) -> Iterator[Found]:
    if spec.scaling.max > 1 and spec.hypervisor is None:
        yield (
            ("hypervisor",),
            f"is missing, and scaling.max is {spec.scaling.max}: name the plugin that makes the "
            "secondaries (hypervisor: {plugin: ...}), or set scaling.max to 1",
        )


def _room_for_warm_nodes(spec: GroupSpec) -> Iterator[Found]:
    low, high, warm = spec.scaling.min, spec.scaling.max, spec.pool.warm
    if warm > high - low:
        yield (
            ("pool", "warm"),
            f"is {warm}, but between scaling.min {low} and scaling.max {high}, which counts the "
            f"warm nodes too, there is room for {high - low}; set scaling.max to {low + warm}",
        )


def _needs_capacity(spec: GroupSpec) -> Iterator[Found]:
    scaling = spec.scaling
    if spec.capacity is not None:
        return
    need = "is missing: say what one node can do, as in capacity: {new_flows_per_s: 500}; "
    if scaling.policy is not Policy.MANUAL and scaling.min < scaling.max:
        yield ("capacity",), f"{need}scaling policy {scaling.policy.value} works on load"
    elif spec.balance.kind is BalanceKind.LEAST_LOAD:
        yield ("capacity",), f"{need}balance least-load works on load"


def _asked_about_each_flow(spec: GroupSpec) -> Iterator[Found]:
    kind = spec.balance.kind
    if kind in EXACT and spec.pinning != "reactive":
        yield (
            ("balance", "kind"),
            f"{kind.value} needs pinning: reactive, where the controller is asked about each new "
            f"flow; with pinning {spec.pinning} the switch spreads them by itself: use even, "
            "weighted or least-load",
        )


def _countable_capacity(spec: GroupSpec) -> Iterator[Found]:
    uncounted = spec.capacity is not None and spec.capacity.active_flows is not None
    if uncounted and spec.pinning == "conntrack":
        yield (
            ("capacity", "active_flows"),
            "cannot be measured with pinning conntrack; use new_flows_per_s, packets_per_s or "
            "bits_per_s, or pinning learn or reactive",
        )


def _distinct_ports(spec: GroupSpec) -> Iterator[Found]:
    for first, second in combinations(spec.match.ports, 2):
        if _overlap(first, second):
            yield ("match", "ports"), f"{_text(first)} and {_text(second)} overlap; merge them"


def _distinct_ingress(spec: GroupSpec) -> Iterator[Found]:
    names = spec.match.ingress
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield ("match", "ingress"), f"names '{name}' twice"
    if spec.primary.port in names:
        message = f"names the primary's own port '{spec.primary.port}'; name the clients' ports"
        yield ("match", "ingress"), message


def _usable_mac(spec: GroupSpec) -> Iterator[Found]:
    mac = spec.primary.mac
    if mac is not None and int(mac[:2], 16) & 1:
        yield ("primary", "mac"), f"{mac} is a multicast address; name the VM's own"
    elif mac is not None and mac.startswith(_OUR_MACS):
        yield ("primary", "mac"), f"{mac} is in the range {_OUR_MACS}... that secondaries get"


def _findable_primary(spec: GroupSpec) -> Iterator[Found]:
    if spec.primary.port is None and spec.bridge is None:
        message = "is missing: a primary that is named by its mac alone needs the bridge it is on"
        yield ("bridge",), message


def _who_answers_arp(spec: GroupSpec) -> Iterator[Found]:
    if spec.arp == "switch" and spec.primary.address == spec.match.address:
        yield (
            ("arp",),
            f"is 'switch', but {spec.address} is the primary's own address (primary.address), for "
            "which it answers itself; use arp: primary, or a separate address in match.address",
        )


def _where_to_ask(spec: GroupSpec) -> Iterator[Found]:
    health = spec.health
    if health.kind in _PROBES_OF_A_PORT and health.port is None and not spec.match.ports:
        yield (
            ("health", "port"),
            f"is missing: match.ports names no port that a {health.kind.value} probe could ask",
        )
    if health.kind in (Probe.ARP, Probe.ND) and health.target == spec.address:
        message = f"{spec.address} is the group's address, for which secondaries do not answer "
        yield ("health", "target"), message + health.kind.name


def _one_family(spec: GroupSpec) -> Iterator[Found]:
    """All of a group's packets are of its address's family."""
    family, health = spec.family, spec.health
    ours = f"{spec.address} (match.address) is {family.name}"
    addresses: dict[tuple[Key, ...], object] = {
        ("primary", "address"): spec.primary.address,
        ("health", "source"): health.source,
        ("health", "target"): health.target,
        ("health", "primary_target"): health.primary_target,
    }
    for keys, address in addresses.items():
        if address is not None and family_of(str(address)) is not family:
            other = family_of(str(address)).name
            yield keys, f"{address} is {other}, but {ours}; a group's addresses are of one family"
    wanted = Probe.ND if family is IPV6 else Probe.ARP
    if health.kind in (Probe.ARP, Probe.ND) and health.kind is not wanted:
        message = f"{health.kind.value} does not ask for {family.name} addresses, and {ours}; "
        yield ("health", "kind"), f"{message}use {wanted.value}"


def _nodes_can_reply(spec: GroupSpec) -> Iterator[Found]:
    """Plugins that give nodes addresses by themselves say of which network (``subnet``)."""
    section = None if spec.hypervisor is None else spec.hypervisor.config
    subnet = getattr(section, "subnet", None)
    version = getattr(subnet, "version", spec.family.version)
    if version != spec.family.version:
        yield (
            ("hypervisor", "subnet"),
            f"{subnet} is IPv{version}, but {spec.address} (match.address) is "
            f"{spec.family.name}: nodes could reply to nobody; name an {spec.family.name} network",
        )


def _reported_capacities(spec: GroupSpec) -> Iterator[Found]:
    """Every signal of a report has a capacity, and the other way round."""
    limits = {} if spec.capacity is None else spec.capacity.reports
    names = [name for source in spec.reports for name in source.signals]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield ("reports",), f"signal '{name}' is in two reports; give one of them another name"
    for name in sorted(set(names) - limits.keys()):
        message = f"is missing: the value of the reported signal '{name}' that is load 1.0"
        yield ("capacity", "reports", name), message
    for name in sorted(limits.keys() - set(names)):
        where = f"reports: {{url: ..., signals: {{{name}: ...}}}}"
        yield ("capacity", "reports", name), f"nobody reports it; say where it is, as in {where}"


def _measurable_latency(spec: GroupSpec) -> Iterator[Found]:
    limited = spec.capacity is not None and spec.capacity.probe_latency_s is not None
    if limited and not spec.health.asks:
        kind = spec.health.kind.value
        message = f"cannot be measured with health kind {kind}, which sends no probes"
        yield ("capacity", "probe_latency_s"), message


def _asked_beside_the_group(spec: GroupSpec) -> Iterator[Found]:
    """What is sent to the group's address comes to any node, not to the one that is asked."""
    if spec.management.primary_address is not None or spec.management.address is not None:
        return
    if spec.arp != "primary" or spec.primary.address is not None or spec.match.ingress:
        return
    mend = "give the primary another address (management.primary_address)"
    if spec.health.via is Via.CONTROLLER:
        port = spec.health.port or (spec.match.ports[0].first if spec.match.ports else 0)
        if _takes(spec, port):
            message = f"{spec.address} port {port} is the group's: any node answers there; {mend}"
            yield ("health", "via"), message
    for source in spec.reports:
        port = _url_port(source.url)
        if source.needs_address and _takes(spec, port):
            message = f"{spec.address} port {port} is the group's: any node answers there; {mend}"
            yield ("reports",), message


def _takes(spec: GroupSpec, port: int) -> bool:
    """Whether TCP to the group's address and this port is spread over the nodes."""
    ports = spec.match.ports
    return "tcp" in spec.match.protocol and (
        not ports or any(p.first <= port <= p.last for p in ports)
    )


def _url_port(url: str) -> int:
    scheme, _, rest = url.partition("://")
    port = re.match(r"[^/?#]*:(\d+)(?=[/?#]|$)", rest)
    return int(port[1]) if port else {"http": 80, "https": 443}[scheme]


_ALONE = (
    _needs_hypervisor,
    _needs_capacity,
    _room_for_warm_nodes,
    _asked_about_each_flow,
    _countable_capacity,
    _distinct_ports,
    _distinct_ingress,
    _usable_mac,
    _findable_primary,
    _who_answers_arp,
    _where_to_ask,
    _one_family,
    _nodes_can_reply,
    _reported_capacities,
    _measurable_latency,
    _asked_beside_the_group,
)


# Two groups -------------------------------------------------------------------------------------


def _distinct_numbers(first: GroupSpec, second: GroupSpec) -> Iterator[Found]:
    if first.zone == second.zone:
        keys: tuple[Key, ...] = () if second.id is None else ("id",)
        yield (
            keys,
            f"has the number {second.zone} on the switch, as group '{first.name}' has; give one of "
            f"them another, as in id: {second.zone % MAX_ZONE + 1}",
        )


def _distinct_traffic(first: GroupSpec, second: GroupSpec) -> Iterator[Found]:
    if _same_traffic(first, second) and not _told_apart(first, second):
        yield (
            ("match",),
            f"overlaps with group '{first.name}': both take {_traffic(first, second)}; give them "
            "different ports, or tell them apart by match.ingress or match.vlan",
        )
    elif _same_traffic(first, second) and _same_primary(first, second):
        yield (
            ("primary",),
            f"is also the primary of group '{first.name}', with {_traffic(first, second)} in both: "
            "its replies could belong to either; make it one group",
        )


def _one_arp_answer(first: GroupSpec, second: GroupSpec) -> Iterator[Found]:
    same = _same_bridge(first, second) and first.match.address == second.match.address
    if same and "switch" in (first.arp, second.arp):
        yield (
            ("match", "address"),
            f"{second.address} is also the address of group '{first.name}', and the switch can "
            "answer for only one of them; use one group, another address, or arp: primary",
        )


def _one_probe_per_primary(first: GroupSpec, second: GroupSpec) -> Iterator[Found]:
    if not (_same_bridge(first, second) and _same_primary(first, second)):
        return
    source = second.health.source
    if source is not None and first.health.source == source:
        yield (
            ("health", "source"),
            f"probes the same primary as group '{first.name}' from {source} too, so that nobody "
            "could tell whose answer comes back; give each group a source of its own",
        )


def _number(spec: GroupSpec) -> Iterable[Hashable]:
    return (spec.zone,)


def _address(spec: GroupSpec) -> Iterable[Hashable]:
    return (spec.match.address,)


def _probed(spec: GroupSpec) -> Iterable[Hashable]:
    """The primary as either of its names, with whom it is asked by."""
    source = spec.health.source
    return {(name, source) for name in (spec.primary.port, spec.primary.mac) if name is not None}


_BETWEEN = (
    (_distinct_numbers, _number),
    (_distinct_traffic, _address),
    (_one_arp_answer, _address),
    (_one_probe_per_primary, _probed),
)
"""Rules, and what two groups have in common that can break them."""


def _probes_from_addresses(groups: tuple[GroupSpec, ...]) -> Iterator[Found]:
    """A probe's source must be nobody's address."""
    taken = {spec.match.address: f"the address of group '{spec.name}'" for spec in groups}
    taken |= {
        spec.primary.address: f"the primary's address in group '{spec.name}'"
        for spec in groups
        if spec.primary.address is not None
    }
    for spec in groups:
        source = spec.health.source
        if source in taken:
            message = f"{source} is {taken[source]}; probes need one of their own"
            yield ("groups", spec.name, "health", "source"), message


def _same_bridge(first: GroupSpec, second: GroupSpec) -> bool:
    """Whether they may be on one bridge; a group that names none may be on any."""
    return first.bridge is None or second.bridge is None or first.bridge == second.bridge


def _same_primary(first: GroupSpec, second: GroupSpec) -> bool:
    one, other = first.primary, second.primary
    by_port = one.port is not None and one.port == other.port
    return by_port or (one.mac is not None and one.mac == other.mac)


def _same_traffic(first: GroupSpec, second: GroupSpec) -> bool:
    """Whether an address, a protocol and a port on one bridge belong to both."""
    one, other = first.match, second.match
    return (
        _same_bridge(first, second)
        and one.address == other.address
        and bool(set(one.protocol) & set(other.protocol))
        and _common_ports(first, second) is not None
    )


def _told_apart(first: GroupSpec, second: GroupSpec) -> bool:
    """Whether VLAN or ingress ports keep the groups' packets apart."""
    one, other = first.match, second.match
    by_vlan = one.vlan is not None and other.vlan is not None and one.vlan != other.vlan
    named = bool(one.ingress) and bool(other.ingress)
    return by_vlan or (named and not set(one.ingress) & set(other.ingress))


def _common_ports(first: GroupSpec, second: GroupSpec) -> str | None:
    """Ports that both take, in words."""
    everything = (PortRange(first=1, last=65535),)
    ours, theirs = first.match.ports or everything, second.match.ports or everything
    for one in ours:
        for other in theirs:
            if _overlap(one, other):
                both = {"first": max(one.first, other.first), "last": min(one.last, other.last)}
                return _text(PortRange(**both))
    return None


def _traffic(first: GroupSpec, second: GroupSpec) -> str:
    protocols = "/".join(p for p in first.match.protocol if p in second.match.protocol)
    return f"{protocols} {first.address} {_common_ports(first, second)}"


def _overlap(first: PortRange, second: PortRange) -> bool:
    return first.first <= second.last and second.first <= first.last


def _text(ports: PortRange) -> str:
    if (ports.first, ports.last) == (1, 65535):
        return "all ports"
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"
