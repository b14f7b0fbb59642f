"""What the plugins for clouds decide without a cloud: sections, tags, addresses, words."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sncontroller.config import ConfigError, parse, schema
from sncontroller.core.layout import MAX_INDEX
from sncontroller.hypervisors._addresses import Range
from sncontroller.hypervisors._ownership import Ownership, ownership
from sncontroller.hypervisors._words import replaced
from sncontroller.hypervisors.base import NodeRequest, Owner, PermanentError
from tests.unit.configs import changed, written

GUIDE = Path(__file__).parents[2] / "docs" / "plugins.md"
NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,63}", fullmatch=True)


def documented(plugin: str) -> dict[str, Any]:
    """The section that the guide shows for a plugin."""
    blocks = re.findall(r"```yaml\n(hypervisor:.*?)```", GUIDE.read_text(), re.DOTALL)
    sections = [yaml.safe_load(block)["hypervisor"] for block in blocks]
    (found,) = (section for section in sections if section["plugin"] == plugin)
    return dict(found)


@pytest.mark.parametrize("plugin", ["openstack", "proxmox"])
def test_documented_section_is_a_good_one(plugin: str) -> None:
    """What the guide shows passes ``check``, and its options are in the schema."""
    section = documented(plugin)
    (web,) = parse(written(web=changed(hypervisor=section))).groups
    assert web.hypervisor is not None
    assert web.hypervisor.plugin == plugin
    assert set(section) - {"plugin"} <= set(type(web.hypervisor.config).model_fields)
    assert plugin in str(schema())


@pytest.mark.parametrize(
    ("plugin", "change", "message"),
    [
        ("openstack", {"cloud": ""}, "cloud: "),
        ("openstack", {"image": None}, "image: "),
        ("openstack", {"addresses": "10.0.0.9-10.0.0.2"}, "addresses: .*must be FIRST-LAST"),
        ("openstack", {"addresses": "a-b"}, "addresses: .*IPv4 or IPv6 address"),
        ("openstack", {"port_security": False, "security_groups": ["web"]}, "need port_security"),
        ("openstack", {"port_prefix": "tap0"}, "port_prefix: "),
        ("openstack", {"ovsdb": "/run/db.sock"}, "ovsdb: "),
        ("openstack", {"wait_s": 0}, "wait_s: "),
        ("openstack", {"flavour": "x"}, "flavour: unknown key"),
        ("proxmox", {"url": "pve1:8006"}, "url: "),
        ("proxmox", {"url": "https://pve1:8006/api2/json"}, "url: "),
        ("proxmox", {"host": "pve 1"}, "host: "),
        ("proxmox", {"template": 99}, "template: "),
        ("proxmox", {"template": 9001}, "must not have the template's, 9001"),
        ("proxmox", {"vmids": "9000"}, "vmids: "),
        ("proxmox", {"vmids": "50-60"}, "must be FIRST-LAST, from 100"),
        ("proxmox", {"vmids": "9049-9000"}, "must be FIRST-LAST"),
        ("proxmox", {"subnet": None}, "must both be there"),
        ("proxmox", {"subnet": "10.0.1.0/24"}, "10.0.0.100 is not in subnet 10.0.1.0/24"),
        ("proxmox", {"gateway": "10.0.1.1"}, "10.0.1.1 is not in subnet"),
        ("proxmox", {"subnet": None, "addresses": None, "gateway": "10.0.0.1"}, "gateway needs"),
        ("proxmox", {"vlan": 4095}, "vlan: "),
        ("proxmox", {"node": "pve1"}, "node: unknown key"),
    ],
)
def test_bad_section_is_named_by_check(plugin: str, change: dict[str, Any], message: str) -> None:
    """Every problem has its place in the file."""
    section = {**documented(plugin), **change}
    with pytest.raises(ConfigError, match=rf"groups\.web\.hypervisor.*{message}"):
        parse(written(web=changed(hypervisor=section)))


def test_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """``check`` tells how to install what is missing; loading the plugin does not need it."""
    monkeypatch.setitem(sys.modules, "openstack", None)
    with pytest.raises(ConfigError, match=r"pip install 'sncontroller\[openstack\]'"):
        parse(written(web=changed(hypervisor=documented("openstack"))))


@given(NAMES, NAMES, NAMES, st.integers(2, MAX_INDEX))
def test_tags_come_back_as_they_were_written(
    controller: str, group: str, node: str, index: int
) -> None:
    """Also with the white space that a cloud adds, and within Neutron's 255 characters."""
    request = NodeRequest(node, index, "port", "02:53:00:A1:00:02", ())
    tags = Ownership.of(Owner(controller, group), request)
    assert ownership(f" {tags.text()}\n") == tags
    assert len(Ownership.of(Owner("c" * 63, "g" * 32), request).text()) < 255


@given(st.one_of(st.none(), st.text(), st.from_regex(r'\{"sncontroller": .*\}', fullmatch=True)))
def test_other_descriptions_are_nobodys(text: str | None) -> None:
    """Whatever a person writes there."""
    assert ownership(text) is None


def test_description_of_another_shape_is_nobodys() -> None:
    """JSON that is not ours, or half of ours."""
    for text in ("7", "[]", "null", '{"sncontroller": "c"}', '{"sncontroller": {}, "index": "x"}'):
        assert ownership(text) is None


def test_index_two_has_the_first_address() -> None:
    """And the one after the last has none."""
    addresses = Range.parse("10.0.0.100 - 10.0.0.101")
    assert [str(addresses.of(index)) for index in (2, 3)] == ["10.0.0.100", "10.0.0.101"]
    for index in (1, 4):
        with pytest.raises(PermanentError, match=f"have none for index {index}"):
            addresses.of(index)
    assert str(Range.parse("fd00::1-fd00::9").of(4)) == "fd00::3"


@pytest.mark.parametrize("text", ["10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1", "a-b", "10.0.0.1"])
def test_no_range_is_refused(text: str) -> None:
    """Two addresses of one kind, the lower one first."""
    with pytest.raises(ValueError, match=r"FIRST-LAST|IPv4"):
        Range.parse(text)


def test_words_are_replaced() -> None:
    """Each of them, and nothing else."""
    request = NodeRequest("web-2", 2, "p", "02:53:00:a1:00:02", ("10.0.0.10", "10.0.0.11"))
    text = "{name} {index} {address} {mac} {group_addresses} {other}"
    said = "web-2 2 10.0.0.102 02:53:00:a1:00:02 10.0.0.10,10.0.0.11 {other}"
    assert replaced(text, request, "10.0.0.102") == said
