"""The plugin protocol between the controller and a hypervisor.

Owns the protocol, its two error types and the registry; the values that cross the border are in
``core.hypervisor``. A plugin creates, destroys and lists nodes; it decides nothing. Calls may
block: the controller runs each one outside its event loop, one call per node at a time.

A plugin is a class named by an entry point in the group ``sncontroller.hypervisors``. It has a
pydantic model ``Config`` for its own section of the configuration and is constructed as
``Plugin(config, owner)``.
"""

from __future__ import annotations

import inspect
from importlib.metadata import entry_points
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from sncontroller.core.hypervisor import NodeInfo, NodeRequest, NodeStatus, Owner

__all__ = [
    "ENTRY_POINT_GROUP",
    "PROTOCOL_VERSION",
    "Hypervisor",
    "HypervisorError",
    "NodeInfo",
    "NodeRequest",
    "NodeStatus",
    "Owner",
    "PermanentError",
    "PluginError",
    "TransientError",
    "load",
    "names",
    "shape_problems",
]

ENTRY_POINT_GROUP = "sncontroller.hypervisors"
PROTOCOL_VERSION = 1


class HypervisorError(Exception):
    """A plugin call failed; the message says what was tried and what came back."""


class TransientError(HypervisorError):
    """May work when tried again: API down, timeout, busy, out of capacity for now."""


class PermanentError(HypervisorError):
    """Will not work when tried again: bad template, quota, no permission."""


class PluginError(Exception):
    """A plugin cannot be loaded; the message names the plugin and the mend."""


class Hypervisor(Protocol):
    """One plugin, for one group. Every call is idempotent and bounded in time by the plugin.

    Each raises ``TransientError`` or ``PermanentError``.
    """

    protocol_version: ClassVar[int]
    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: Any, owner: Owner) -> None: ...

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Ensure that the node exists and runs; its port is on the bridge when this returns."""

    def stop_node(self, name: str) -> None:
        """Ensure that the node and everything created for it are gone; absent is fine."""

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """All nodes with this owner's tag, half-made ones included (as BROKEN)."""


def names() -> tuple[str, ...]:
    """The names of all installed plugins, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)}))


def load(name: str) -> type[Hypervisor]:
    """The plugin class called ``name``, its shape checked. Raises ``PluginError``."""
    found = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == name]
    if not found:
        raise PluginError(f"no hypervisor plugin named {name!r}; installed: {', '.join(names())}")
    values = sorted({point.value for point in found})
    if len(values) > 1:
        raise PluginError(f"two hypervisor plugins are named {name!r}: {', '.join(values)}")
    try:
        plugin = found[0].load()
    except Exception as error:
        raise PluginError(f"hypervisor plugin {name!r} ({found[0].value}): {error}") from error
    problems = shape_problems(plugin)
    if problems:
        raise PluginError(f"hypervisor plugin {name!r} ({found[0].value}): {'; '.join(problems)}")
    return plugin  # type: ignore[no-any-return]


def shape_problems(plugin: Any) -> tuple[str, ...]:
    """What keeps ``plugin`` from being a plugin of this protocol version, one phrase each."""
    if not inspect.isclass(plugin):
        return ("it must be a class",)
    problems = []
    if getattr(plugin, "protocol_version", None) != PROTOCOL_VERSION:
        problems.append(f"protocol_version must be {PROTOCOL_VERSION}")
    config = getattr(plugin, "Config", None)
    if not (inspect.isclass(config) and issubclass(config, BaseModel)):
        problems.append("Config must be a pydantic model")
    for method in ("__init__", "start_node", "stop_node", "list_nodes"):
        wanted = list(inspect.signature(getattr(Hypervisor, method)).parameters)
        actual = getattr(plugin, method, None)
        if actual is None:
            problems.append(f"{method} is missing")
        elif list(inspect.signature(actual).parameters) != wanted:
            problems.append(f"{method} must take ({', '.join(wanted)})")
    return tuple(problems)
