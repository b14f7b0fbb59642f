"""Domain XML: from a group's section and a request to a VM, and from a VM back to a node.

Pure: text in, text out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from sncontroller.hypervisors.base import NodeRequest, Owner, PermanentError

NAMESPACE: Final = "https://sncontroller.invalid/node/1"
"""Of our element in a domain's metadata."""
_NODE: Final = f"{{{NAMESPACE}}}node"
_FILE: Final = f"{{{NAMESPACE}}}file"
_NO_OFFLOADS: Final = {"csum": "off", "gso": "off", "tso4": "off", "tso6": "off", "ecn": "off"}

ET.register_namespace("sn", NAMESPACE)


@dataclass(frozen=True, slots=True)
class Guest:
    """What a VM is made of, beside its node's own values."""

    virt_type: str
    memory_mib: int
    cpus: int
    kernel: Path | None
    initramfs: Path | None
    cmdline: str
    disk: Path | None
    seed: Path | None
    bridge: str
    vlan: int | None


@dataclass(frozen=True, slots=True)
class Tags:
    """What a domain's metadata and interface say of its node."""

    owner: Owner
    name: str
    index: int
    port: str
    mac: str
    uuid: str
    active: bool
    files: tuple[Path, ...]
    """What was made for it, and goes with it."""


def domain_name(owner: Owner, node: str) -> str:
    """The domain's name: two controllers may have a ``web-2`` each."""
    return f"{owner.controller}.{node}"


def domain_xml(
    template: str | None, words: Mapping[str, str], guest: Guest, owner: Owner, request: NodeRequest
) -> str:
    """The domain that is this node. Raises ``PermanentError`` when the template is no domain."""
    domain = _base(guest) if template is None else _from_template(template, words)
    domain.set("type", guest.virt_type)
    for tag in ("name", "uuid", "metadata"):
        for old in domain.findall(tag):
            domain.remove(old)
    ET.SubElement(domain, "name").text = domain_name(owner, request.name)
    domain.append(_metadata(guest, owner, request))
    devices = domain.find("devices")
    if devices is None:
        devices = ET.SubElement(domain, "devices")
    for old in devices.findall("interface"):
        devices.remove(old)
    if guest.disk is not None:
        devices.append(_disk(guest.disk, "qcow2", "vda"))
    if guest.seed is not None:
        devices.append(_disk(guest.seed, "raw", _free_target(devices)))
    devices.append(_interface(guest, request))
    return ET.tostring(domain, encoding="unicode")


def tags_of(xml: str) -> Tags | None:
    """Whose node the domain is, or ``None`` for one that we did not make."""
    domain = ET.fromstring(xml)
    node = domain.find(f"metadata/{_NODE}")
    if node is None or not node.get("index", "").isdecimal():
        return None
    return Tags(
        owner=Owner(node.get("controller", ""), node.get("group", "")),
        name=node.get("node", ""),
        index=int(node.get("index", "")),
        port=node.get("port", ""),
        mac=node.get("mac", ""),
        uuid=domain.findtext("uuid", ""),
        active=domain.get("id") is not None,
        files=tuple(Path(file.text or "") for file in node.findall(_FILE)),
    )


def _from_template(template: str, words: Mapping[str, str]) -> ET.Element:
    for placeholder, value in words.items():
        template = template.replace(placeholder, escape(value, {'"': "&quot;", "'": "&apos;"}))
    try:
        domain = ET.fromstring(template)
    except ET.ParseError as error:
        raise PermanentError(f"template: no XML: {error}") from error
    if domain.tag != "domain":
        raise PermanentError(f"template: <{domain.tag}> stands where <domain> must")
    return domain


def _base(guest: Guest) -> ET.Element:
    domain = ET.Element("domain")
    ET.SubElement(domain, "memory", unit="MiB").text = str(guest.memory_mib)
    ET.SubElement(domain, "vcpu").text = str(guest.cpus)
    ET.SubElement(domain, "cpu", mode="maximum")  # the machine's own by KVM, else all that is known
    system = ET.SubElement(domain, "os")
    ET.SubElement(system, "type", arch="x86_64", machine="q35").text = "hvm"
    boot = {"kernel": guest.kernel, "initrd": guest.initramfs, "cmdline": guest.cmdline}
    for tag, value in boot.items():
        if value:
            ET.SubElement(system, tag).text = str(value)
    ET.SubElement(ET.SubElement(domain, "features"), "acpi")
    ET.SubElement(domain, "on_poweroff").text = "destroy"
    ET.SubElement(domain, "on_reboot").text = "restart"
    ET.SubElement(domain, "on_crash").text = "destroy"
    devices = ET.SubElement(domain, "devices")
    ET.SubElement(ET.SubElement(devices, "console", type="pty"), "target", type="serial")
    ET.SubElement(devices, "memballoon", model="none")
    return domain


def _metadata(guest: Guest, owner: Owner, request: NodeRequest) -> ET.Element:
    metadata = ET.Element("metadata")
    whose = {"controller": owner.controller, "group": owner.group, "node": request.name}
    what = {"index": str(request.index), "port": request.port, "mac": request.mac}
    node = ET.SubElement(metadata, _NODE, {**whose, **what})
    for file in (guest.disk, guest.seed):
        if file is not None:
            ET.SubElement(node, _FILE).text = str(file)
    return metadata


def _disk(file: Path, kind: str, target: str) -> ET.Element:
    disk = ET.Element("disk", type="file", device="disk")
    ET.SubElement(disk, "driver", name="qemu", type=kind)
    ET.SubElement(disk, "source", file=str(file))
    ET.SubElement(disk, "target", dev=target, bus="virtio")
    if kind == "raw":
        ET.SubElement(disk, "readonly")
    return disk


def _free_target(devices: ET.Element) -> str:
    """The first name for a disk, after the image's, that the template has not."""
    taken = {target.get("dev") for target in devices.findall("disk/target")}
    names = (f"vd{letter}" for letter in "bcdefghijklmnopqrstuvwxyz")
    return next(name for name in names if name not in taken)


def _interface(guest: Guest, request: NodeRequest) -> ET.Element:
    interface = ET.Element("interface", type="bridge")
    ET.SubElement(interface, "source", bridge=guest.bridge)
    ET.SubElement(interface, "virtualport", type="openvswitch")
    if guest.vlan is not None:
        ET.SubElement(ET.SubElement(interface, "vlan"), "tag", id=str(guest.vlan))
    ET.SubElement(interface, "mac", address=request.mac)
    ET.SubElement(interface, "target", dev=request.port)
    ET.SubElement(interface, "model", type="virtio")
    # a userspace switch passes packets on as they are: checksums must be there
    driver = ET.SubElement(interface, "driver", name="qemu")
    ET.SubElement(driver, "host", {**_NO_OFFLOADS, "ufo": "off", "mrg_rxbuf": "off"})
    ET.SubElement(driver, "guest", {**_NO_OFFLOADS, "ufo": "off"})
    return interface
