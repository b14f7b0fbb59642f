"""A group's specification as the configuration file that says the same."""

from __future__ import annotations

import json
from typing import Any

from sncontroller import config
from sncontroller.config import Config
from sncontroller.core.model import GroupSpec


def text(*specs: GroupSpec) -> str:
    """The file; JSON is YAML."""
    groups: dict[str, Any] = {}
    for spec in specs:
        raw = json.loads(spec.model_dump_json(exclude_unset=True))
        raw["match"]["ports"] = [f"{p.first}-{p.last}" for p in spec.match.ports]
        raw["scaling"] = {"policy": "manual", "max": 1}
        del raw["name"]
        groups[spec.name] = raw
    return json.dumps({"groups": groups})


def configured(*specs: GroupSpec) -> Config:
    """The configuration with these groups."""
    return config.parse(text(*specs))
