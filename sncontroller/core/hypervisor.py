"""The values that cross the border between the core and a hypervisor plugin."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Owner:
    """The tag on every object a plugin creates: who may list and destroy it."""

    controller: str
    group: str


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """What a node must be. ``name`` is the idempotency key: the same request twice is one node."""

    name: str
    index: int
    port: str
    """Name that the node's OVS port must get (at most 15 characters)."""
    mac: str
    """Hardware address that the node's interface must have."""
    addresses: tuple[str, ...]
    """The group's addresses, which it holds on its loopback without answering for them."""


class NodeStatus(Enum):
    """What the hypervisor knows of a node; whether the service answers is not its business."""

    STARTING = "starting"
    RUNNING = "running"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as the hypervisor has it; enough to take it over after a restart."""

    name: str
    index: int
    port: str
    mac: str
    status: NodeStatus
    detail: str = ""
    """Anything that helps the operator find it: a domain's UUID, a namespace's name."""
    address: str = ""
    """Its own IP address, at which its reports are fetched; empty when the plugin does not know."""
