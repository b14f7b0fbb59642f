"""Configuration files to begin from, and what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sncontroller.config import ConfigError, parse

README = """\
groups:
  web:
    match: {address: 10.0.0.10, ports: [80]}
    primary: {port: vm1}
    capacity: {new_flows_per_s: 500}
    scaling: {policy: threshold, max: 4}
    health: {kind: tcp, source: 10.0.0.254}
    hypervisor: {plugin: netns, bridge: br0, subnet: 10.0.0.0/24,
                 addresses: 10.0.0.101-10.0.0.120, command: [/usr/bin/web]}
"""
GROUP: dict[str, Any] = {
    "match": {"address": "10.0.0.10", "ports": [80]},
    "primary": {"port": "vm1"},
    "health": {"kind": "tcp", "source": "10.0.0.254"},
    "scaling": {"policy": "manual", "max": 1},
}
OTHER: dict[str, Any] = {
    "match": {"address": "10.0.0.11", "ports": [80]},
    "primary": {"port": "vm2"},
    "health": {"kind": "tcp", "source": "10.0.0.254"},
    "scaling": {"policy": "manual", "max": 1},
}


def problems(text: str) -> list[str]:
    """The lines of the error that this text gives."""
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value).splitlines()


def written(**groups: Any) -> str:
    """A file with these groups, one line each."""
    lines = (f"  {name}: {json.dumps(group)}\n" for name, group in groups.items())
    return "groups:\n" + "".join(lines)


def told(group: dict[str, Any], **others: Any) -> list[str]:
    """The problems of a file with this group and others; the group is ``web``, in line 2."""
    return problems(written(web=group, **others))


def changed(base: dict[str, Any] = GROUP, **sections: Any) -> dict[str, Any]:
    """The group with keys in its sections replaced; a section that is no mapping as a whole."""
    both = {
        name: {**base.get(name, {}), **section} if isinstance(section, dict) else section
        for name, section in sections.items()
    }
    return {**base, **both}
