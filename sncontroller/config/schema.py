"""The configuration file as a JSON Schema (2020-12), for editors and other programs.

Owns the two places where the file differs from the models: ``groups`` is a mapping of names, and a
``hypervisor`` section is the installed plugin's own. Rules between sections are not in it.
"""

from __future__ import annotations

from typing import Any

from sncontroller.core.model import Config, GroupSpec, HypervisorSpec
from sncontroller.hypervisors import base

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The JSON Schema of the file, with the sections of the plugins that are installed here."""
    root = Config.model_json_schema()
    definitions = root.pop("$defs")
    group = definitions["GroupSpec"]
    name = group["properties"].pop("name")
    group["required"].remove("name")
    common = definitions.pop("HypervisorSpec")["properties"]
    own = {key: common[key] for key in HypervisorSpec.own_keys() - {"plugin"}}
    group["properties"]["hypervisor"] = _hypervisor(definitions, dict(sorted(own.items())))
    health = definitions["HealthSpec"]["properties"]
    health["expect_status"] = _one_or_list(health["expect_status"])
    root["properties"]["groups"] = {
        "type": "object",
        "description": "A group's name, and its settings.",
        "propertyNames": {"pattern": name["pattern"]},
        "additionalProperties": {"$ref": "#/$defs/GroupSpec"},
    }
    return {
        "$schema": DIALECT,
        "title": "sncontroller configuration",
        **{key: value for key, value in root.items() if key not in ("title", "description")},
        "required": ["groups"],
        "$defs": definitions,
    }


def _one_or_list(array: dict[str, Any]) -> dict[str, Any]:
    """Also accepts a single item, as the model does before it validates."""
    about: dict[str, Any] = {
        key: array.pop(key) for key in ("title", "description", "default") if key in array
    }
    return {**about, "anyOf": [array["items"], array]}


def _hypervisor(definitions: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """One branch per plugin; what the plugins' models define goes to ``definitions``.

    ``own`` are the keys that every section may have.
    """
    branches: list[dict[str, Any]] = []
    for name in base.names():
        try:
            model = base.load(name).Config
        except base.PluginError:
            continue
        section = model.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
        for part, body in section.pop("$defs", {}).items():
            definitions[f"{name}.{part}"] = body
        plugin = {"const": name, "description": section.get("description", "The plugin's name.")}
        section["properties"] = {"plugin": plugin} | own | section.get("properties", {})
        section["required"] = ["plugin", *section.get("required", [])]
        definitions[f"hypervisor.{name}"] = section
        branches.append({"$ref": f"#/$defs/hypervisor.{name}"})
    description = GroupSpec.model_fields["hypervisor"].description or "Who makes the secondaries."
    anything = {"type": "object", "required": ["plugin"]}
    return {"description": description, "anyOf": [*(branches or [anything]), {"type": "null"}]}
