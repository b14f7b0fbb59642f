"""The configuration: what a file means, how two differ, what the schema says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sncontroller import config
from sncontroller.config import Config, ConfigError, Problem, differences, load, parse, schema
from sncontroller.core.model import PortRange
from sncontroller.core.scaling import ThresholdSpec
from tests.unit.configs import GROUP, OTHER, README, changed, written

# What a file means ------------------------------------------------------------------------------


def test_ten_lines_are_enough() -> None:
    """The README's file, with a default for everything it does not say."""
    web = parse(README).group("web")

    assert web is not None
    assert web.match.ports == (PortRange(first=80, last=80),)
    assert web.match.protocol == ("tcp",)
    assert isinstance(web.scaling, ThresholdSpec)
    assert (web.scaling.min, web.scaling.max) == (1, 4)
    assert (web.pinning, web.arp, web.bridge) == ("conntrack", "primary", None)
    assert web.hypervisor is not None
    assert web.hypervisor.plugin == "netns"


@pytest.mark.parametrize(
    ("raw", "ports"),
    [
        ("80", [(80, 80)]),
        ("[80, 443]", [(80, 80), (443, 443)]),
        ("8000-8010", [(8000, 8010)]),
        ("['80', ' 90 - 91 ']", [(80, 80), (90, 91)]),
        ("[]", []),
    ],
)
def test_ports_can_be_written_in_several_ways(raw: str, ports: list[tuple[int, int]]) -> None:
    """A port, a range, or a list of them."""
    health = "health: {kind: tcp, source: 10.0.0.254, port: 80}"
    text = f"""
groups:
  web: {{match: {{address: 10.0.0.10, ports: {raw}}}, primary: {{port: vm1}}, {health},
         scaling: {{policy: manual, max: 1}}}}
"""
    (web,) = parse(text).groups
    assert [(p.first, p.last) for p in web.match.ports] == ports


def test_yaml_is_read_as_people_mean_it() -> None:
    """A hardware address is no number in base 60, ``no`` is no false, 010 is no octal."""
    text = written(web=changed(primary={"port": "vm1"}))
    text = text.replace('{"port": "vm1"}', "{port: no, mac: 52:54:00:12:34:56}")
    text = text.replace('"ports": [80]', '"ports": 0080, "vlan": 010')
    (web,) = parse(text).groups

    assert web.primary.port == "no"
    assert web.primary.mac == "52:54:00:12:34:56"
    assert web.match.vlan == 10
    assert web.match.ports[0].first == 80


@pytest.mark.parametrize(
    "number", ["1000000", "1_000_000", "1e6", "1.0e+6", "0xf4240", "+1000000.0"]
)
def test_numbers_can_be_written_in_several_ways(number: str) -> None:
    """Large ones should be readable."""
    raw = written(web=changed(capacity={"bits_per_s": 7})).replace("7}", f"{number}}}")
    capacity = parse(raw).groups[0].capacity
    assert capacity is not None
    assert capacity.bits_per_s == 1_000_000


def test_groups_can_share_sections_by_alias() -> None:
    """Anchors and merge keys work, and a key beside ``<<`` wins."""
    text = f"""
groups:
  web: &web {json.dumps(GROUP)}
  dns:
    <<: *web
    match: {{address: 10.0.0.53, protocol: udp, ports: 53}}
    primary: {{port: vm2}}
"""
    web, dns = parse(text).groups
    assert dns.health == web.health
    assert dns.match.protocol == ("udp",)


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    """Editors on other systems write one."""
    file = tmp_path / "sn.yaml"
    file.write_text(README, encoding="utf-8-sig")
    assert load(file) == parse(README)


# Differences ------------------------------------------------------------------------------------


def test_differences_are_told_by_group() -> None:
    """Added, removed, changed; the same file is no difference."""
    old = parse(written(web=GROUP, dns=OTHER))
    mail = changed(OTHER, match={"address": "10.0.0.12"}, primary={"port": "vm3"})
    new = parse("controller: lab\n" + written(web=changed(drain={"idle_s": 5}), mail=mail))

    found = differences(old, new)

    assert (found.added, found.removed, found.changed) == (("mail",), ("dns",), ("web",))
    assert found.settings == ("controller",)
    assert str(found) == "settings controller; added mail; changed web; removed dns"
    assert not differences(old, parse(written(dns=OTHER, web=GROUP)))
    assert str(differences(old, old)) == "nothing changed"


# Schema -----------------------------------------------------------------------------------------


def test_the_schema_is_self_contained() -> None:
    """Every reference leads somewhere, and plugins' sections are in it."""
    text = json.dumps(schema())
    names = schema()["$defs"]
    references = {part.partition('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert references <= set(names)
    assert "hypervisor.netns" in references
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize(
    "raw",
    [
        yaml.safe_load(README),
        {"groups": {}},
        {"groups": {"web": GROUP}, "controller": "lab", "switch": {"onward": 5}},
        {"groups": {"web": changed(match={"ports": ["80", "90-91"], "protocol": ["udp"]})}},
        {"groups": {"web": changed(match={"ports": "80-81", "ingress": "up0"})}},
        {
            "groups": {
                "web": {
                    **GROUP,
                    "health": {"kind": "http", "source": "10.0.0.254", "expect_status": 200},
                },
            }
        },
        {"groups": {"web": {**GROUP, "scaling": {"policy": "target", "target": "auto", "max": 1}}}},
    ],
)
def test_good_files_fit_the_schema(raw: dict[str, Any]) -> None:
    """An editor with the schema finds nothing wrong with what we accept."""
    assert parse(yaml.safe_dump(raw))
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(raw)


# Totality ---------------------------------------------------------------------------------------

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["10.0.0.1", "80-90", "threshold", "tcp", "netns"]),
)
_KEYS = st.sampled_from(
    [
        *Config.model_fields,
        *GROUP,
        "address",
        "ports",
        "port",
        "mac",
        "policy",
        "max",
        "plugin",
        "x",
    ]
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(_KEYS, _SCALARS), inner, max_size=4)
    ),
    max_leaves=12,
)


def found_in(text: str) -> tuple[Problem, ...]:
    """The problems in a text; none for a right one."""
    try:
        parse(text)
    except ConfigError as error:
        return error.problems
    return ()


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(value=st.dictionaries(_KEYS, _VALUES, max_size=5), group=st.dictionaries(_KEYS, _VALUES))
def test_whatever_is_written_ends_in_a_configuration_or_in_problems(
    value: dict[str, Any], group: dict[str, Any]
) -> None:
    """No file makes the parser raise anything else, and every problem is one line."""
    raw = {"groups": {"web": {**GROUP, **group}}, **value}
    assert all("\n" not in str(each) for each in found_in(yaml.safe_dump(raw, allow_unicode=True)))


@given(text=st.text(max_size=40))
def test_whatever_text_ends_in_problems(text: str) -> None:
    """The same for text that is hardly YAML."""
    assert all("\n" not in str(problem) for problem in found_in(text))


def test_problems_are_values() -> None:
    """A caller can show them in its own way."""
    assert str(Problem("groups.web", "is odd", 3)) == "groups.web: is odd (line 3)"
    assert config.ConfigError([Problem("a", "b"), Problem("c", "d")]).args == ("a: b\nc: d",)


# Documentation ----------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()


def test_every_key_is_explained() -> None:
    """docs/configuration.md has each key of each section in the file, in code letters."""
    definitions = schema()["$defs"]
    ours = {name: d for name, d in definitions.items() if not name.startswith("hypervisor.")}
    models = [d for name, d in ours.items() if "properties" in d and "." not in name]
    keys = {key for model in [schema(), *models] for key in model["properties"]}
    assert {key for key in keys if f"`{key}`" not in PAGE} == set()


def test_the_examples_of_the_page_are_right() -> None:
    """The smallest file is one, and the wrong one gives the lines that are shown."""
    example = PAGE.partition("```yaml\n")[2].partition("```")[0]
    assert parse(example).groups
    _, _, shown = PAGE.partition("$ sncontroller check sn.yaml\n")
    text = "groups:\n  web:\n    match: {address: 10.0.0.300, port: 80}\n"
    rest = {key: section for key, section in GROUP.items() if key != "match"}
    rest["scaling"] = {"policy": "manual", "max": 4}
    for key, section in rest.items():
        text += f"    {key}: {json.dumps(section)}\n"
    lines = shown.partition("\n```")[0].splitlines()
    assert [str(problem) for problem in found_in(text)] == lines[:2]
    right = text.replace("address: 10.0.0.300, port: 80", "address: 10.0.0.10, ports: 80")
    assert [str(problem) for problem in found_in(right)] == lines[2:]
