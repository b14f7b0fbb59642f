"""Whose a node is, as ``external_ids`` of its switch port, and placeholders in a node's command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sncontroller.hypervisors.base import NodeRequest, Owner

CONTROLLER: Final = "sn-controller"
GROUP: Final = "sn-group"
NODE: Final = "sn-node"
INDEX: Final = "sn-index"
BRIDGE: Final = "sn-bridge"
MAC: Final = "attached-mac"
READY: Final = "sn-ready-at"
"""When the node is ready, in seconds since 1970; without it, its making was cut short."""


def tags_of(owner: Owner, request: NodeRequest, bridge: str) -> dict[str, str]:
    """The tags of a node that is to be."""
    return {
        CONTROLLER: owner.controller,
        GROUP: owner.group,
        NODE: request.name,
        INDEX: str(request.index),
        BRIDGE: bridge,
        MAC: request.mac,
    }


def owned(tags: Mapping[str, str], owner: Owner) -> bool:
    """Whether they are a node's of this owner; tags that somebody mutilated are nobody's."""
    is_node = NODE in tags and tags.get(INDEX, "").isdecimal()
    return is_node and (tags.get(CONTROLLER), tags.get(GROUP)) == (owner.controller, owner.group)


def replaced(text: str, words: Mapping[str, str]) -> str:
    """The text with each placeholder replaced; braces of its own stay."""
    for placeholder, value in words.items():
        text = text.replace(placeholder, value)
    return text
