"""``sncontroller hypervisor check``: one node of each group, started and stopped for real."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sncontroller.cli import shell
from sncontroller.errors import OperatorError

if TYPE_CHECKING:
    from sncontroller.core.model import GroupSpec
    from sncontroller.hypervisors.check import Step


@click.command("check")
@click.argument("file", metavar="FILE", type=click.Path(readable=False))
@click.option("--group", "name", metavar="NAME", help="Only this group.")
@shell.as_json
def check(file: str, name: str | None, json_: bool) -> int:
    """Start and stop one node of each group in FILE, and say how long each step takes.

    The node is not the running controller's, which does not see it; nothing is left of it. Where
    nodes have own addresses it takes one that no node of the group has. Exit code 2 when a step
    fails.
    """
    from sncontroller.hypervisors.check import steps

    config = shell.configuration(file)
    taken: list[tuple[str, Step]] = []
    for spec in _specs(config.groups, name, file):
        for step in steps(config.controller, spec):
            taken.append((spec.name, step))
            if not json_:
                click.echo(_line(spec.name, step), err=not step.ok)
    if json_:
        shell.print_json([_as_json(group, step) for group, step in taken])
    return 0 if all(step.ok for _, step in taken) else shell.WRONG


def _specs(groups: tuple[GroupSpec, ...], name: str | None, file: str) -> list[GroupSpec]:
    """The groups to check. Raises ``OperatorError`` when there is none."""
    able = [spec for spec in groups if spec.hypervisor is not None]
    chosen = [spec for spec in able if name in (None, spec.name)]
    if not chosen:
        there = ", ".join(spec.name for spec in able) or "none"
        wanted = "no group" if name is None else f"no group {name}"
        raise OperatorError(f"{wanted} with a hypervisor in {file}; there are: {there}")
    return chosen


def _line(group: str, step: Step) -> str:
    verdict = "" if step.ok else "FAILED: "
    return f"{group}: {step.title:<11} {step.took_s:7.2f} s  {verdict}{step.said}"


def _as_json(group: str, step: Step) -> dict[str, Any]:
    return {
        "group": group,
        "step": step.title,
        "took_s": round(step.took_s, 3),
        "ok": step.ok,
        "said": step.said,
    }
