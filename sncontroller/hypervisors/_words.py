"""Placeholders in what an operator writes for his nodes: ``{name}``, ``{address}`` and so on."""

from __future__ import annotations

from sncontroller.hypervisors.base import NodeRequest

PLACEHOLDERS = "{name}, {index}, {address}, {mac} and {group_addresses}"


def replaced(text: str, request: NodeRequest, address: str) -> str:
    """``text`` with this node's values."""
    words = {
        "{name}": request.name,
        "{index}": str(request.index),
        "{address}": address,
        "{mac}": request.mac,
        "{group_addresses}": ",".join(request.addresses),
    }
    for placeholder, value in words.items():
        text = text.replace(placeholder, value)
    return text
