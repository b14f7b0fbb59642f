"""What must hold between the sections of one group.

Each rule is a function of a typed value that yields what is wrong, by path below the group, and
what to do; none of them looks at a switch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Final

from sncontroller.config.text import Key
from sncontroller.config.wording import Found
from sncontroller.core.balance import EXACT, BalanceKind
from sncontroller.core.family import IPV6, family_of
from sncontroller.core.health_spec import Kind as Probe
from sncontroller.core.health_spec import Via
from sncontroller.core.model import GroupSpec
from sncontroller.core.scaling import Policy
from sncontroller.hypervisors._addresses import Range

_PROBES_OF_A_PORT = (Probe.TCP, Probe.UDP, Probe.HTTP)
_OUR_MACS = "02:53:"


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
        if first.overlaps(second):
            yield ("match", "ports"), f"{first} and {second} overlap; merge them"


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


def _own_addresses(spec: GroupSpec) -> Iterator[Found]:
    """Plugins that number nodes' addresses (``addresses: FIRST-LAST``) have one for each node.

    None of them may be somebody else's.
    """
    section = None if spec.hypervisor is None else spec.hypervisor.config
    written = getattr(section, "addresses", None)
    try:
        own = Range.parse(str(written))
    except ValueError:  # none, or a notation of the plugin's own
        return
    secondaries = spec.scaling.max - 1
    if len(own) < secondaries:
        yield (
            ("hypervisor", "addresses"),
            f"{written} {'is' if len(own) == 1 else 'are'} {len(own)}, but scaling.max "
            f"{spec.scaling.max} needs {secondaries}: one for each secondary",
        )
    taken = {
        "match.address": spec.address,
        "primary.address": spec.primary.address,
        "health.source": spec.health.source,
        "hypervisor.gateway": getattr(section, "gateway", None),
    }
    for whose, address in taken.items():
        if address in own:
            message = f"{written} holds {address} ({whose}), which a node must not get"
            yield ("hypervisor", "addresses"), message


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


ALONE: Final[tuple[Callable[[GroupSpec], Iterator[Found]], ...]] = (
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
    _own_addresses,
    _reported_capacities,
    _measurable_latency,
    _asked_beside_the_group,
)
"""Every rule of a single group."""
