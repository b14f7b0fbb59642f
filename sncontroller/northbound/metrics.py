"""The status as Prometheus reads it: text exposition format 0.0.4.

A pure function of the status object. What is not known has no sample, because 0 would be a claim.
Units are base units, as Prometheus asks for: seconds, bits, ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = (
    "requested",
    "booting",
    "probing",
    "standby",
    "warming",
    "active",
    "draining",
    "gone",
    "failed",
)

Read = Callable[[Mapping[str, Any]], Any]
_GROUP: tuple[tuple[str, str, str, Read], ...] = (
    ("load", "gauge", "Mean load of the serving nodes, 1 is their capacity.", lambda g: g["load"]),
    ("wanted_nodes", "gauge", "Nodes the policy or an operator wants.", lambda g: g["wanted"]),
    ("active_nodes", "gauge", "Nodes that take new flows.", lambda g: g["active"]),
    (
        "warm_nodes",
        "gauge",
        "Nodes of the warm pool that are ready.",
        lambda g: sum(node["state"] == "standby" for node in g["nodes"]),
    ),
    (
        "nodes",
        "gauge",
        "Nodes that there are, whatever their state: what is paid for.",
        lambda g: len(g["nodes"]),
    ),
    (
        "held_nodes",
        "gauge",
        "Nodes that look dead and are kept in rotation by the breaker: look at the probes' way.",
        lambda g: len(g["held"]),
    ),
    ("connected", "gauge", "1 while the group's switch is connected.", lambda g: g["connected"]),
    (
        "slots_moved_total",
        "counter",
        "Slots, of 256, that changed their node.",
        lambda g: g["slots_moved_total"],
    ),
)
_NODE: tuple[tuple[str, str, Read], ...] = (
    (
        "load",
        "Used fraction of the node's capacity, by its most loaded signal.",
        lambda n: n["load"],
    ),
    ("slots", "Slots, of 256, that lead new flows to the node.", lambda n: n["slots"]),
    ("new_flows_per_second", "New flows.", lambda n: n["signals"]["new_flows_per_s"]),
    (
        "packets_per_second",
        "Packets of the node.",
        lambda n: n["signals"]["packets_per_s"],
    ),
    ("bits_per_second", "Bits of the node.", lambda n: n["signals"]["bits_per_s"]),
    ("active_flows", "Flows pinned to the node.", lambda n: n["signals"]["active_flows"]),
    (
        "port_drops_per_second",
        "Packets dropped at the node's switch port.",
        lambda n: n["signals"]["port_drops_per_s"],
    ),
    (
        "probe_latency_seconds",
        "Time the node took to answer the last good probe.",
        lambda n: n.get("health", {}).get("latency_s"),
    ),
    (
        "state_since_timestamp_seconds",
        "When the node came into its state, in seconds since the epoch.",
        lambda n: n["since_s"],
    ),
)


def render(status: Mapping[str, Any]) -> str:
    """The whole page, one family after the other, ending in a newline."""
    return "".join(f"{line}\n" for line in _lines(status))


def _lines(status: Mapping[str, Any]) -> Iterator[str]:
    yield from _family("info", "gauge", "The controller that runs.")
    labels = {"controller": status["controller"], "version": status["version"]}
    yield _sample("info", labels, 1)
    for name, value in status.get("counters", {}).items():
        yield from _family(name, "counter", "Since the controller started.")
        yield _sample(name, {}, value)
    for name, kind, text, read in _GROUP:
        yield from _family(f"group_{name}", kind, text)
        for group in status["groups"]:
            yield from _known(f"group_{name}", {"group": group["name"]}, read(group))
    for name, text, read in _NODE:
        yield from _family(f"node_{name}", "gauge", text)
        for labels, node in _nodes(status):
            yield from _known(f"node_{name}", labels, read(node))
    yield from _family("node_signal", "gauge", "A signal of the node's load, by its name.")
    for labels, node in _nodes(status):
        for name, value in node["signals"].items():
            yield from _known("node_signal", labels | {"signal": name}, value)
    yield from _family("node_state", "gauge", "1 for the state the node is in, 0 for the others.")
    for labels, node in _nodes(status):
        for state in STATES:
            yield _sample("node_state", labels | {"state": state}, int(node["state"] == state))


def _nodes(status: Mapping[str, Any]) -> Iterator[tuple[dict[str, str], Mapping[str, Any]]]:
    for group in status["groups"]:
        for node in group["nodes"]:
            yield {"group": group["name"], "node": node["name"], "role": node["role"]}, node


def _family(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP sncontroller_{name} {text}"
    yield f"# TYPE sncontroller_{name} {kind}"


def _known(name: str, labels: Mapping[str, str], value: Any) -> Iterator[str]:
    if value is not None:
        yield _sample(name, labels, value)


def _sample(name: str, labels: Mapping[str, str], value: Any) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    number = repr(float(value)) if isinstance(value, float) else str(int(value))
    return (
        f"sncontroller_{name}{{{inside}}} {number}" if inside else f"sncontroller_{name} {number}"
    )


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
