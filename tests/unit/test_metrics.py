"""The metrics page: what Prometheus reads is what the status says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sncontroller.northbound.metrics import STATES, render

NODE: dict[str, Any] = {
    "name": "web-1",
    "role": "primary",
    "state": "active",
    "slots": 128,
    "load": 0.25,
    "signals": {
        "new_flows_per_s": 12.5,
        "packets_per_s": None,
        "bits_per_s": 1e9,
        "active_flows": 3,
        "port_drops_per_s": 0.0,
        "cpu": 0.75,
    },
    "health": {"latency_s": 0.001},
    "since_s": 1700000000.5,
}
GROUP: dict[str, Any] = {
    "name": "web",
    "load": None,
    "wanted": 2,
    "active": 1,
    "connected": True,
    "held": ["web-1"],
    "slots_moved_total": 7,
    "nodes": [NODE],
}
STATUS: dict[str, Any] = {"controller": 'a"b\\c\n', "version": "1", "groups": [GROUP]}
_SAMPLE = re.compile(r"^(sncontroller_\w+)(\{(?:\w+=\"(?:[^\"\\\n]|\\.)*\",?)*\})? (\S+)$")


def samples(text: str) -> dict[str, float]:
    """Values by series."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = [_SAMPLE.match(line) for line in lines]
    assert all(found), lines
    return {f"{m[1]}{m[2] or ''}": float(m[3]) for m in found if m is not None}


def test_the_documentation_names_what_there_is() -> None:
    """Every metric in docs/operations.md, the alerts' among them."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    named = set(re.findall(r"\bsncontroller_[a-z_]+\b", page))
    counters = {"dropped_new_flows_total": 0, "handler_errors_total": 0}  # SNController.status
    text = render({**STATUS, "counters": counters})
    there = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    assert len(named) >= 10
    assert named <= there


def test_every_number_has_its_series() -> None:
    """Groups and nodes by labels; booleans as 0 and 1."""
    found = samples(render(STATUS))
    node = '{group="web",node="web-1",role="primary"}'
    assert found['sncontroller_group_wanted_nodes{group="web"}'] == 2
    assert found['sncontroller_group_connected{group="web"}'] == 1
    assert found['sncontroller_group_held_nodes{group="web"}'] == 1
    assert found['sncontroller_group_slots_moved_total{group="web"}'] == 7
    assert found[f"sncontroller_node_load{node}"] == 0.25
    assert found[f"sncontroller_node_bits_per_second{node}"] == 1e9
    cpu = '{group="web",node="web-1",role="primary",signal="cpu"}'
    assert found[f"sncontroller_node_signal{cpu}"] == 0.75
    assert found[f"sncontroller_node_probe_latency_seconds{node}"] == 0.001


def test_what_is_not_known_has_no_sample() -> None:
    """A missing rate is no rate of 0."""
    text = render(STATUS)
    assert "sncontroller_node_packets_per_second{" not in text
    assert "sncontroller_group_load{" not in text


def test_exactly_one_state_is_1() -> None:
    """Of all states that a node can have."""
    found = samples(render(STATUS))
    states = {key: value for key, value in found.items() if "node_state{" in key}
    assert len(states) == len(STATES)
    assert [key for key, value in states.items() if value] == [
        'sncontroller_node_state{group="web",node="web-1",role="primary",state="active"}'
    ]


def test_labels_are_escaped() -> None:
    """Whatever an operator calls things, the page stays readable."""
    assert 'controller="a\\"b\\\\c\\n"' in render(STATUS)


def test_every_family_is_declared_once_before_its_samples() -> None:
    """As the text format asks for."""
    declared: list[str] = []
    for line in render({**STATUS, "counters": {"handler_errors_total": 2}}).splitlines():
        if line.startswith("# TYPE "):
            declared.append(line.split()[2])
        elif not line.startswith("#"):
            assert re.split(r"[{ ]", line)[0] == declared[-1]
    assert len(declared) == len(set(declared))
    assert "sncontroller_handler_errors_total" in declared


def test_states_are_those_of_the_core() -> None:
    """A state that is added there must be added here."""
    from sncontroller.core.lifecycle import State

    assert set(STATES) == {state.value for state in State}
