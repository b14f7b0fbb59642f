"""Worked examples: a group's YAML and the exact entries that it compiles to.

``python -m flows`` writes the ``.groups`` and ``.flows`` files anew.
"""

from __future__ import annotations

from pathlib import Path

from sncontroller import config
from sncontroller.core import layout
from sncontroller.core.layout import Kind
from sncontroller.offline import Known, planned

HERE = Path(__file__).parent
NODES = 3
"""Every example has a primary on port 1 and two secondaries on ports 2 and 3."""
_KINDS = {
    Kind.CLASSIFY: "the group's packets leave the bridge's other traffic",
    Kind.RETURN: "replies of each node: counted, and on their way",
    Kind.SERVICE: "ARP or ND for the address, and probes",
    Kind.PINNED: "a pin is known: to its node",
    Kind.SELECT: "no pin yet: a slot, or the controller, chooses",
    Kind.COMMIT: "the choice becomes the pin",
    Kind.PIN: "one flow's pin",
}


def examples() -> tuple[Path, ...]:
    """The examples' YAML files, by name."""
    return tuple(sorted(HERE.glob("*.yaml")))


def compiled(example: Path) -> dict[Path, str]:
    """What the files beside an example must hold."""
    loaded = config.load(str(example))
    (spec,) = loaded.groups
    plan = planned(spec, loaded.switch.layout, NODES, Known({}, {}))
    head = "".join(f"# {note}\n" for note in plan.assumptions)
    return {
        example.with_suffix(".groups"): head + "".join(f"{line}\n" for line in plan.groups),
        example.with_suffix(".flows"): head + _sections(plan.flows),
    }


def _sections(flows: tuple[str, ...]) -> str:
    """The flows by purpose, each section under a line that says what it is for."""
    sections: dict[tuple[int, Kind], list[str]] = {}
    for line in flows:
        origin = layout.origin(int(line.partition("cookie=")[2].partition(",")[0], 16))
        assert origin is not None
        where = line.partition(" actions=")[0]
        table = int(where.partition("table=")[2].partition(",")[0] or 0)
        sections.setdefault((table, origin.kind), []).append(line)
    return "".join(
        f"\n# table {table}: {_KINDS[kind]}\n" + "".join(f"{line}\n" for line in lines)
        for (table, kind), lines in sections.items()
    )
