"""What must hold between groups.

Each rule is a function of two groups, the later one in the file second, that yields what is wrong
with that one and what to do; none of them looks at a switch.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Final

from sncontroller.config.text import Key
from sncontroller.config.wording import Found
from sncontroller.core.layout import MAX_ZONE
from sncontroller.core.model import GroupSpec, PortRange


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


BETWEEN: Final = (
    (_distinct_numbers, _number),
    (_distinct_traffic, _address),
    (_one_arp_answer, _address),
    (_one_probe_per_primary, _probed),
)
"""Rules, and what two groups have in common that can break them."""


def probes_from_addresses(groups: tuple[GroupSpec, ...]) -> Iterator[Found]:
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
            if one.overlaps(other):
                both = {"first": max(one.first, other.first), "last": min(one.last, other.last)}
                return str(PortRange(**both))
    return None


def _traffic(first: GroupSpec, second: GroupSpec) -> str:
    protocols = "/".join(p for p in first.match.protocol if p in second.match.protocol)
    return f"{protocols} {first.address} {_common_ports(first, second)}"
