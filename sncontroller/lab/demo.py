"""``python -m sncontroller.lab.demo``: the product's main job, on real traffic, on this machine.

Owns the command line, the verdict and what is written: see docs/demo.md.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console

from sncontroller.hypervisors.libvirt import Virtualization
from sncontroller.lab import guard
from sncontroller.lab.isolation import isolate
from sncontroller.lab.leftovers import Scope, leftovers, snapshot
from sncontroller.lab.machines import HYPERVISORS
from sncontroller.lab.play import Play, Played
from sncontroller.lab.programs import LabError, MissingError, program, require_root
from sncontroller.lab.report import Aftermath, Drain, Latency, Report, report
from sncontroller.lab.scenario import Scenario
from sncontroller.lab.service import Service
from sncontroller.lab.setting import OWNER, THINK_S, Setting

OVS_PROGRAMS = ("ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ovs-ofctl")
PROGRAMS = (*OVS_PROGRAMS, "nginx", "ip", "tc", "curl")
INTERRUPTED = 130
_WRITTEN = ("report.json", "demo.png", "controller.log", "clients.log", "sncontroller.yaml")


@click.command()
@click.option(
    "--hypervisor",
    metavar=f"[{'|'.join(HYPERVISORS)}]",
    envvar="HYPERVISOR",
    default="netns",
    show_default=True,
    help="What nodes are made by: virtual machines or namespaces.  [env: HYPERVISOR]",
)
@click.option(
    "--virtualization",
    type=click.Choice([each.value for each in Virtualization]),
    default=Virtualization.AUTO.value,
    show_default=True,
    help="How virtual machines run: qemu emulates, everywhere.",
)
@click.option(
    "--pinning",
    type=click.Choice(["conntrack", "learn", "reactive"]),
    default="conntrack",
    show_default=True,
    help="How the switch keeps a connection on its node.",
)
@click.option("--quick", "is_quick", is_flag=True, help="Fewer clients, 3 nodes, half a minute.")
@click.option("--kill-controller", is_flag=True, help="Kill the controller in mid traffic.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the clients' choices.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/demo"),
    show_default=True,
    help="Where report, picture and logs go.",
)
@click.option(
    "--guest",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/guest"),
    show_default=True,
    help="Where what virtual machines boot is kept.",
)
@click.option("--keep", is_flag=True, help="Leave the lab up before the end, until Ctrl-C.")
def main(
    hypervisor: str,
    virtualization: str,
    pinning: str,
    is_quick: bool,
    kill_controller: bool,
    seed: int,
    output: Path,
    guest: Path,
    keep: bool,
) -> NoReturn:
    """One saturated VM becomes an elastic group, and one VM again, under real traffic.

    Everything runs in network namespaces of its own on a private Open vSwitch. Exit code 0: all
    expectations held; 1: not, with the reasons; 2: something is missing on this machine.
    """
    kind = HYPERVISORS.get(hypervisor)
    if kind is None:
        fail(f"there is none on {hypervisor!r}; HYPERVISOR is one of {', '.join(HYPERVISORS)}", 2)
    scenario = (kind.quick if is_quick else kind.full)(
        one_node_users(kind.service), kill_controller
    )
    setting = Setting(
        output=output.absolute(),
        pinning=pinning,
        hypervisor=hypervisor,
        max_nodes=scenario.max_nodes,
        quick=is_quick,
        seed=seed,
        service=kind.service,
        guest=guest.absolute(),
        virtualization=Virtualization(virtualization),
    )
    try:
        sys.exit(run(setting, scenario, keep, Console()))
    except MissingError as error:
        fail(str(error), 2)
    except LabError as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)


def run(setting: Setting, scenario: Scenario, keep: bool, console: Console) -> int:
    """Play the demo, write and show what was found: the exit code."""
    require_root("the demo")
    for name in (*PROGRAMS, *HYPERVISORS[setting.hypervisor].programs):
        program(name)
    if find_spec("matplotlib") is None:
        raise MissingError("matplotlib is not installed (pip install sncontroller[lab])")
    guard.listen()
    marks = (guard.mark(), f"SNCONTROLLER_NODE={OWNER}/")
    isolate()
    clear(setting.output)
    before = snapshot(Scope(directories=(setting.nodes,), marks=marks))
    try:
        played = Play(setting, scenario, console, keep).run()
    except BaseException:
        lines = [f"left behind: {line}" for line in leftovers(before)]
        for line in lines or ["everything was cleaned up"]:
            console.print(line, markup=False, highlight=False)
        raise
    entries = (f"entry {line}" for line in played.after.ours)
    left = (*entries, *played.left, *leftovers(before))
    found = report(played.record, aftermath(setting, played, left))
    write(setting, played, found)
    for line in summary(setting, found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0 if found.ok else 1


def one_node_users(service: Service) -> float:
    """Users whose requests are one node's capacity, if they are answered at once."""
    return service.answers_per_s * THINK_S


def aftermath(setting: Setting, played: Played, left: tuple[str, ...]) -> Aftermath:
    """What there is to say about what the run left."""
    identical = played.before.foreign == played.after.foreign
    ran_on = {**machine(), **played.versions}
    return Aftermath(identical, left, ran_on, played.problems, setting.hypervisor)


def clear(output: Path) -> None:
    """Take away what an earlier run wrote."""
    output.mkdir(parents=True, exist_ok=True)
    for name in _WRITTEN:
        (output / name).unlink(missing_ok=True)
    shutil.rmtree(output / "nodes", ignore_errors=True)


def write(setting: Setting, played: Played, found: Report) -> None:
    """Write the report and the picture."""
    os.environ.setdefault("MPLCONFIGDIR", str(setting.output / "matplotlib"))
    from sncontroller.lab.plot import draw

    text = json.dumps(found.as_json(), indent=2, ensure_ascii=False)
    (setting.output / "report.json").write_text(text + "\n")
    draw(played.record, setting.service.answers_per_s, setting.output / "demo.png")


def machine() -> dict[str, Any]:
    """What the run's figures depend on."""
    switch = subprocess.run(
        [program("ovs-vswitchd"), "--version"], capture_output=True, text=True
    ).stdout
    server = subprocess.run([program("nginx"), "-v"], capture_output=True, text=True).stderr
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "open_vswitch": switch.splitlines()[0].rpartition(" ")[2] if switch else "unknown",
        "nginx": server.strip().rpartition("/")[2] or "unknown",
    }


def summary(setting: Setting, found: Report) -> Iterator[str]:
    """The findings for a reader."""
    rate, nodes, made = found.throughput, found.nodes, found.connections
    alone, peak = found.latency_ms["alone"], found.latency_ms["peak"]
    width = 22
    heading = f"at the peak, {nodes.peak} nodes"
    yield ""
    yield f"{'':14}{'the primary alone':>{width}}{heading:>{width}}"
    gain = f"   {rate.gain:.1f} times"
    yield f"{'requests/s':14}{rate.alone:>{width}.0f}{rate.peak:>{width}.0f}{gain}"
    for name in ("p50", "p99"):
        yield f"{'latency ' + name:14}{_ms(alone, name):>{width}}{_ms(peak, name):>{width}}"
    yield ""
    yield (
        f"connections   {made.made} made, {made.held} of them held open; "
        f"{made.failed} failed, {made.moved} moved to another node"
    )
    yield f"nodes         1, {nodes.peak} at the peak, {nodes.end} at the end"
    yield from (_drain(drain) for drain in found.drains)
    yield f"others' flows {'as before' if found.foreign_flows_identical else 'CHANGED'}"
    yield f"left behind   {', '.join(found.leftovers) or 'nothing'}"
    yield f"took          {found.took_s:.0f} s"
    yield ""
    yield f"{_shown(setting.output)}/: {', '.join(_WRITTEN)}"
    yield from (f"PROBLEM: {problem}" for problem in found.problems)
    yield "All expectations held." if found.ok else "Not all expectations held."


def _drain(drain: Drain) -> str:
    gone = "still there" if drain.gone_s is None else f"gone at {drain.gone_s:.0f} s"
    held = "1 long-lived connection" if drain.held == 1 else f"{drain.held} long-lived connections"
    began = f"drained from {drain.began_s:.0f} s"
    return f"  {drain.node:12}{began}, waited {drain.waited_s:.0f} s for {held}, {gone}"


def _ms(latency: Latency, name: str) -> str:
    value = getattr(latency, name)
    return "-" if value is None else f"{value:.0f} ms"


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def fail(reason: str, status: int) -> NoReturn:
    """End with one line of reason."""
    click.echo(f"demo: {reason}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
