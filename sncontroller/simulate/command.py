"""``sncontroller simulate``: from options to a study, from a study to what is printed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from sncontroller.errors import OperatorError
from sncontroller.simulate import plot, report, study
from sncontroller.simulate.simulation import Setting
from sncontroller.simulate.study import Contender, Course, Source
from sncontroller.simulate.traces import SHAPES, Noise, from_csv

FOUR = ("step", "ramp", "daily", "flash")
POLICIES = (study.TRACKER, "target", "predictive")
WIDTH = 160


@click.command(
    epilog="""\b
Examples:
  sncontroller simulate
  sncontroller simulate --trace daily --policy target --json
  sncontroller simulate --trace load.csv --before yesterday.csv --config sn.yaml --group web
  sncontroller simulate --boot 120 --visible-load 1 --png build/simulate
"""
)
@click.option(
    "--trace",
    "traces",
    multiple=True,
    metavar="NAME|FILE",
    help=f"{', '.join(SHAPES)}, or a CSV file of second,demand with demand in nodes' worth; "
    f"repeatable.  [default: {', '.join(FOUR)}]",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="tracker (25 lines, to compare with), threshold, target, predictive, manual, with their "
    f"defaults; repeatable.  [default: {', '.join(POLICIES)}, or none with --config]",
)
@click.option("--config", metavar="FILE", help="Simulate the scaling of a group in FILE.")
@click.option("--group", metavar="NAME", help="Which group, where FILE has several.")
@click.option(
    "--max",
    "max_nodes",
    type=click.IntRange(1, 256),
    default=20,
    show_default=True,
    help="Most nodes, for --policy.",
)
@click.option("--before", metavar="FILE", help="CSV of the day before, which predictive has seen.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the generated noise.")
@click.option(
    "--runs",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Run each this often, with other noise and from another time of day, and tell the worst.",
)
@click.option(
    "--noise",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Share by which generated demand trembles, from second to second.",
)
@click.option(
    "--noise-kind",
    type=click.Choice([kind.value for kind in Noise]),
    default="uniform",
    show_default=True,
    help="uniform: within plus and minus; gaussian: deviation.",
)
@click.option(
    "--shift",
    "shift_s",
    metavar="SECONDS",
    type=float,
    default=0.0,
    help="Begin generated traces this much later in their day.",
)
@click.option(
    "--boot",
    "boot_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="From request to rotation.",
)
@click.option(
    "--poll",
    "poll_s",
    metavar="SECONDS",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Between two decisions.",
)
@click.option(
    "--visible-load",
    type=click.FloatRange(min=0, min_open=True),
    default=math.inf,
    help="Highest load that can be measured: 1 where only the served load shows.  "
    "[default: no limit, as new flows at the switch]",
)
@click.option(
    "--flow-life",
    "flow_life_s",
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Mean length of a flow.",
)
@click.option(
    "--drain-deadline",
    "drain_deadline_s",
    metavar="SECONDS",
    default=300.0,
    type=click.FloatRange(min=0),
    show_default=True,
    help="A draining node goes after this; flows it has left are moved.",
)
@click.option("--png", metavar="DIR", help="Write a picture of every trace into DIR.")
@click.option("--output", metavar="DIR", help="Write report.json, table.md and the pictures there.")
@click.option(
    "--json",
    "json_",
    is_flag=True,
    help="Print JSON: by trace and policy, or the numbers alone where there is one of each.",
)
def simulate(
    traces: tuple[str, ...],
    policies: tuple[str, ...],
    config: str | None,
    group: str | None,
    max_nodes: int,
    before: str | None,
    seed: int,
    runs: int,
    noise: float,
    noise_kind: str,
    shift_s: float,
    png: str | None,
    output: str | None,
    json_: bool,
    **nodes: Any,
) -> None:
    """Try scaling policies on traces of load, without a switch.

    It is the code that decides in the controller, fed second by second with a trace: every second
    with a load above 1.0 is a violation, every node that exists costs, and the optimum is the
    fewest nodes that would have done at each second.
    """
    setting = _setting(nodes)
    contenders = _contenders(policies, config, group, max_nodes)
    sources = [
        (Path(name).stem, _csv_source(name, before))
        if name not in SHAPES
        else (name, study.generated_source(name, seed, noise, Noise(noise_kind), shift_s))
        for name in traces or FOUR
    ]
    found: dict[str, dict[str, study.Cell]] = {}
    for trace, policy, cell in study.cells(sources, contenders, setting, runs):
        found.setdefault(trace, {})[policy] = cell
        if output is not None:
            click.echo(f"{trace}, {policy}: {cell.first.optimum_ratio:.3f} x optimum", err=True)
    for folder in filter(None, (png, output)):
        _pictures(Path(folder), dict(sources), found)
    if output is not None:
        _written(Path(output), found)
    _print(found, json_)


def _setting(nodes: dict[str, Any]) -> Setting:
    """The simulated nodes, as checked."""
    try:
        return Setting(**nodes)
    except ValidationError as error:
        first = error.errors()[0]
        raise OperatorError(f"{first['loc'][0]}: {first['msg']}") from None


def _contenders(
    policies: tuple[str, ...], config: str | None, group: str | None, max_nodes: int
) -> list[Contender]:
    """The policies by name, and the one of a configured group."""
    if group is not None and config is None:
        raise click.UsageError("--group needs --config FILE")
    try:
        named = [
            study.built_in(name, max_nodes)
            for name in policies or (() if config is not None else POLICIES)
        ]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return named if config is None else [*named, _configured(config, group)]


def _configured(path: str, group: str | None) -> Contender:
    """The scaling of a group in a configuration file."""
    from sncontroller import config

    groups = [spec for spec in config.load(path).groups if group in (None, spec.name)]
    if len(groups) != 1:
        there = ", ".join(spec.name for spec in config.load(path).groups) or "none"
        raise OperatorError(f"{path}: say with --group which one; there are: {there}")
    return Contender(groups[0].name, groups[0].scaling)


def _csv_source(name: str, before: str | None) -> Source:
    """The course that CSV files tell, the same in every run."""
    yesterday = () if before is None else (_read(before),)
    course = Course(_read(name), yesterday)
    return lambda _: course


def _read(name: str) -> Any:
    """A trace from a CSV file."""
    path = Path(name)
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return from_csv(path.stem, lines)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        known = ", ".join(SHAPES)
        raise OperatorError(f"cannot read {name}: {reason}; generated traces are {known}") from None
    except ValueError as error:
        raise OperatorError(str(error)) from None


def _pictures(
    folder: Path, sources: dict[str, Source], found: dict[str, dict[str, study.Cell]]
) -> None:
    """A PNG per trace in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for trace, by_policy in found.items():
        plot.draw(folder / f"{trace}.png", trace, sources[trace](0).today.demand, by_policy)


def _written(folder: Path, found: dict[str, dict[str, study.Cell]]) -> None:
    """The numbers as files in the folder."""
    numbers = json.dumps(report.study_json(found), indent=2)
    (folder / "report.json").write_text(f"{numbers}\n", encoding="utf-8")
    (folder / "table.md").write_text(report.markdown(found), encoding="utf-8")


def _print(found: dict[str, dict[str, study.Cell]], json_: bool) -> None:
    """The study on standard output."""
    if not json_:
        from rich.console import Console

        Console(width=None if Console().is_terminal else WIDTH).print(report.table(found))
        return
    value: Any = report.study_json(found)
    rows = [row for by_policy in value.values() for row in by_policy.values()]
    click.echo(json.dumps(rows[0] if len(rows) == 1 else value, indent=2))
