"""What was hoped for beside what was found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

Target: TypeAlias = dict[str, Any]


def target(
    name: str,
    found: float | None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    unit: str = "",
) -> Target:
    """One target as JSON; ``found`` is None where it could not be measured, and ``met`` is too."""
    met = None
    if found is not None:
        met = (at_least is None or found >= at_least) and (at_most is None or found <= at_most)
    return {
        "name": name,
        "at_least": at_least,
        "at_most": at_most,
        "found": found,
        "unit": unit,
        "met": met,
    }


def table(targets: Iterable[Target]) -> str:
    """The targets as Markdown."""
    lines = ["| target | wanted | found | |", "|---|---|---|---|"]
    for each in targets:
        met = {True: "met", False: "**missed**", None: "not measured"}[each["met"]]
        found = "" if each["found"] is None else f"{each['found']:.4g}{_unit(each)}"
        lines.append(f"| {each['name']} | {_wanted(each)} | {found} | {met} |")
    return "\n".join(lines)


def _wanted(each: Target) -> str:
    bounds = (("at least", each["at_least"]), ("at most", each["at_most"]))
    return ", ".join(
        f"{word} {bound:g}{_unit(each)}" for word, bound in bounds if bound is not None
    )


def _unit(each: Target) -> str:
    return f" {each['unit']}" if each["unit"] else ""
