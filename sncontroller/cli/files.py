"""Commands that start from a configuration file: run, check, plan, schema, hypervisor."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

import sncontroller
from sncontroller.cli import shell
from sncontroller.cli.hypervisor_check import check as check_command
from sncontroller.errors import OperatorError
from sncontroller.ryu_manager import hold_stop

if TYPE_CHECKING:
    from sncontroller.config import Config
    from sncontroller.core.hypervisor import NodeInfo
    from sncontroller.core.model import GroupSpec
    from sncontroller.offline import Planned

FILE = click.argument("file", metavar="FILE", type=click.Path(readable=False))


@click.command()
@FILE
@click.option(
    "--listen",
    metavar="HOST:PORT",
    type=shell.Endpoint(),
    default="127.0.0.1:6653",
    show_default=True,
    help="Where switches connect to. OpenFlow here is neither encrypted nor authenticated: "
    "listen elsewhere only on a management network.",
)
@click.option(
    "--rest",
    metavar="HOST:PORT",
    type=shell.Endpoint(),
    default="127.0.0.1:8080",
    show_default=True,
    help="Where status, requests and metrics are served; whoever reaches it may drain nodes.",
)
@click.option("--verbose", "-v", is_flag=True, help="Log what Ryu does, too.")
def run(file: str, listen: tuple[str, int], rest: tuple[str, int], verbose: bool) -> None:
    """Start the controller with the configuration in FILE.

    It runs in the foreground until Ctrl-C; bridges go on forwarding without it. Bridges must be
    told to connect to it: see sncontroller attach. kill -HUP, or sncontroller reload, reads FILE
    again. To run it beside other Ryu applications: ryu-manager --sn-config FILE sncontroller.app.
    """
    config = shell.configuration(file)
    _require_hypervisors(config)
    with ExitStack() as both:
        for option, endpoint in (("--listen", listen), ("--rest", rest)):
            both.enter_context(_listening(option, endpoint))
    arguments = [
        *("--sn-config", os.path.abspath(file)),
        *("--ofp-listen-host", listen[0], "--ofp-tcp-listen-port", str(listen[1])),
        *("--wsapi-host", rest[0], "--wsapi-port", str(rest[1])),
        *(["--verbose"] if verbose else []),
    ]
    places = f"switches at {_shown(listen)}, status at http://{_shown(rest)}"
    told = f"sncontroller {sncontroller.__version__}: groups {_named(config) or 'none'}"
    hold_stop()
    click.echo(f"{told}; {places}; Ctrl-C ends", err=True)
    # A fresh interpreter in this very process: eventlet has to come before everything else.
    os.execv(sys.executable, [sys.executable, "-m", "sncontroller.serve", *arguments])


def _named(config: Config) -> str:
    return ", ".join(spec.name for spec in config.groups)


def _require_hypervisors(config: Config) -> None:
    """Raise ``ConfigError`` for what no retry would mend: no root, a program that is missing.

    A hypervisor that does not answer just now is not in the way of a start.
    """
    from sncontroller.config import ConfigError, Problem
    from sncontroller.hypervisors import base

    problems = []
    for spec in config.groups:
        try:
            _nodes(config.controller, spec)
        except base.PermanentError as error:
            problems.append(Problem(f"groups.{spec.name}.hypervisor", str(error)))
        except base.TransientError:
            continue
    if problems:
        raise ConfigError(problems)


def _shown(endpoint: tuple[str, int]) -> str:
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listening(option: str, endpoint: tuple[str, int]) -> socket.socket:
    """A socket that listens there. Raises ``OperatorError`` when somebody else does."""
    family = socket.AF_INET6 if ":" in endpoint[0] else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_STREAM)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(endpoint)
        probe.listen(1)
    except OSError as error:
        probe.close()
        reason = error.strerror or str(error)
        raise OperatorError(
            f"cannot listen on {_shown(endpoint)}: {reason.lower()}; "
            f"stop what listens there, or choose another place with {option} HOST:PORT"
        ) from None
    return probe


@click.command()
@FILE
@shell.as_json
def check(file: str, json_: bool) -> int:
    """Say whether FILE is a right configuration, and everything that is wrong with it.

    Needs no switch and no controller. Exit code 0 when it is right, 2 when not.
    """
    from sncontroller.config import ConfigError

    try:
        config = shell.configuration(file)
    except ConfigError as error:
        if not json_:
            raise
        problems = [{"path": p.path, "message": p.message, "line": p.line} for p in error.problems]
        shell.print_json({"ok": False, "problems": problems})
        return shell.WRONG
    if json_:
        names = [spec.name for spec in config.groups]
        shell.print_json({"ok": True, "groups": names, "problems": []})
    else:
        click.echo(f"{file}: right; groups: {_named(config) or 'none'}")
    return 0


@click.command(
    epilog="""\b
Examples:
  sncontroller plan sn.yaml
  sncontroller plan sn.yaml --group web --nodes 3 --port vm1=5
  sncontroller plan sn.yaml --groups-only | ovs-ofctl -O OpenFlow13 add-groups br0 -
  sncontroller plan sn.yaml --flows-only | ovs-ofctl -O OpenFlow13 add-flows br0 -
"""
)
@FILE
@click.option("--group", "name", metavar="NAME", help="Only this group.")
@click.option(
    "--nodes",
    metavar="N",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="Nodes that serve, the primary included.",
)
@shell.of_ports
@click.option("--groups-only", "part", flag_value="groups", help="Print no flows.")
@click.option("--flows-only", "part", flag_value="flows", help="Print no groups.")
@shell.as_json
def plan(
    file: str,
    name: str | None,
    nodes: int,
    ports: tuple[tuple[str, int], ...],
    macs: tuple[tuple[str, str], ...],
    part: str | None,
    json_: bool,
) -> None:
    """Print the exact flows and groups that FILE compiles to, as ovs-ofctl takes them.

    Needs no switch and no controller. Port numbers and the primary's hardware address are
    assumed, and said in comments, unless --port and --mac give them.
    """
    from sncontroller import offline

    config = shell.configuration(file)
    known = offline.Known(dict(ports), dict(macs))
    specs = [spec for spec in config.groups if name in (None, spec.name)]
    if name is not None and not specs:
        there = ", ".join(spec.name for spec in config.groups) or "none"
        raise OperatorError(f"no group {name} in {file}; there are: {there}")
    _require_there([*known.ports, *known.macs], specs, nodes)
    plans = [offline.planned(spec, config.switch.layout, nodes, known) for spec in specs]
    if json_:
        shell.print_json([_plan_json(each, part) for each in plans])
        return
    for each in plans:
        click.echo("\n".join(_plan_lines(each, nodes, part)))


def _require_there(names: list[str], specs: list[GroupSpec], nodes: int) -> None:
    """Raise ``OperatorError`` for a port that is in no plan: a typing error would go unseen."""
    from sncontroller import offline

    there = [name for spec in specs for name in offline.port_names(spec, nodes)]
    for name in names:
        if name not in there:
            raise OperatorError(f"no port {name} in this plan; there are: {', '.join(there)}")


def _plan_lines(each: Planned, nodes: int, part: str | None) -> list[str]:
    """A group's plan; everything but entries is in comments."""
    spec = each.spec
    count = "1 node" if nodes == 1 else f"{nodes} nodes"
    lines = [f"# group {spec.name}: number {spec.zone}, {count}, pinning {spec.pinning}"]
    lines += [f"# {assumption}" for assumption in each.assumptions]
    if part != "flows":
        lines += [f"# {len(each.groups)} groups: ovs-ofctl -O OpenFlow13 add-groups", *each.groups]
    if part != "groups":
        lines += [f"# {len(each.flows)} flows: ovs-ofctl -O OpenFlow13 add-flows", *each.flows]
    return lines


def _plan_json(each: Planned, part: str | None) -> dict[str, Any]:
    entries = {"groups": each.groups, "flows": each.flows}
    return {
        "name": each.spec.name,
        "id": each.spec.zone,
        "assumptions": each.assumptions,
        **{key: lines for key, lines in entries.items() if part in (None, key)},
    }


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors.

    \b
    Point an editor at it with a first line such as
      # yaml-language-server: $schema=./sncontroller.schema.json
    """
    from sncontroller import config

    shell.print_json(config.schema())


@click.group(cls=shell.Commands)
def hypervisor() -> None:
    """Ask hypervisors, through the plugins that FILE names."""


@hypervisor.command("list")
@FILE
@shell.as_json
def list_nodes(file: str, json_: bool) -> int:
    """List every group's nodes as its hypervisor has them.

    Starts and stops nothing. Exit code 2 when a hypervisor does not answer.
    """
    config = shell.configuration(file)
    answers = [_asked(config.controller, spec) for spec in config.groups]
    if json_:
        shell.print_json(answers)
    else:
        for answer in answers:
            click.echo(_told(answer), err=answer["error"] is not None)
    return shell.WRONG if any(answer["error"] for answer in answers) else 0


hypervisor.add_command(check_command)


def _asked(controller: str, spec: GroupSpec) -> dict[str, Any]:
    """One hypervisor's list of nodes, or why there is none."""
    from sncontroller.hypervisors import base

    answer: dict[str, Any] = {"group": spec.name, "plugin": None, "nodes": [], "error": None}
    if spec.hypervisor is None:
        return answer
    answer["plugin"] = spec.hypervisor.plugin
    try:
        nodes = _nodes(controller, spec)
    except base.HypervisorError as error:
        return {**answer, "error": str(error)}
    shown = [{"name": n.name, "status": n.status.value, "detail": n.detail} for n in nodes]
    return {**answer, "nodes": shown}


def _nodes(controller: str, spec: GroupSpec) -> tuple[NodeInfo, ...]:
    """A group's nodes as its hypervisor has them. Raises ``HypervisorError``."""
    from sncontroller.hypervisors import base

    if spec.hypervisor is None:
        return ()
    plugin = base.load(spec.hypervisor.plugin)
    return plugin(spec.hypervisor.config, base.Owner(controller, spec.name)).list_nodes()


def _told(answer: dict[str, Any]) -> str:
    if answer["plugin"] is None:
        return f"{answer['group']}: no hypervisor"
    if answer["error"] is not None:
        return f"{answer['group']}: {answer['plugin']}: {answer['error']}"
    nodes = ", ".join(f"{node['name']} ({node['status']})" for node in answer["nodes"])
    return f"{answer['group']}: {answer['plugin']}: answers; nodes: {nodes or 'none'}"
