"""Commands on a live bridge, with or without a controller: diff, attach, detach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sncontroller.cli import shell
from sncontroller.errors import RefusedError

if TYPE_CHECKING:
    from sncontroller.attach import Outcome
    from sncontroller.bridge import Bridge

BRIDGE = click.argument("bridge", metavar="BRIDGE")


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(readable=False))
@BRIDGE
@shell.of_ports
@shell.of_switch
@shell.as_json
def diff(
    file: str,
    bridge: str,
    ports: tuple[tuple[str, int], ...],
    macs: tuple[tuple[str, str], ...],
    ovsdb: str | None,
    rundir: str | None,
    json_: bool,
) -> int:
    """Show what FILE would change on BRIDGE: + is missing there, - nothing asks for.

    Nodes and the slot table are taken as the bridge has them, so what differs is the
    configuration's doing, or somebody else's. Foreign entries are never shown. Exit code 0 when
    nothing differs, 1 when something does.
    """
    from sncontroller import offline

    config = shell.configuration(file)
    known = offline.Known(dict(ports), dict(macs))
    found = offline.difference(config, _bridge(bridge, ovsdb, rundir), known)
    if json_:
        shell.print_json({"missing": found.missing, "surplus": found.surplus})
    else:
        for line in found.lines:
            click.echo(line)
    return shell.REFUSED if found else 0


@click.command()
@BRIDGE
@click.option(
    "--controller",
    metavar="TARGET",
    help="Where the controller listens, as ovs-vsctl set-controller has it. [default: what attach "
    "told the bridge before, else tcp:127.0.0.1:6653]",
)
@click.option(
    "--packet-ins",
    metavar="PER_S",
    type=click.IntRange(min=0),
    help="How many packets per second the switch may hand to the controller; at least 100, or 0 "
    "for no limit. [default: what the bridge has, else 1500]",
)
@shell.of_switch
@shell.as_json
def attach(
    bridge: str,
    controller: str | None,
    packet_ins: int | None,
    ovsdb: str | None,
    rundir: str | None,
    json_: bool,
) -> None:
    """Let BRIDGE connect to the controller, and keep everything that is on it.

    Open vSwitch flushes a bridge when it gets its first controller: its flows, groups and meters
    are saved, put back in one step (about 20 ms later) and compared. Counters and timeouts of
    those entries start again. The bridge's fail mode becomes secure, so that it goes on as it is
    when no controller is there; in the default mode, standalone, it would then forward like a
    plain switch and ignore its entries. A bridge that has controllers keeps them, and its fail
    mode. sncontroller detach undoes all of this. Doing it twice is doing it once; the second time
    it says how the bridge and the controller get on.

    With pinning: reactive new flows come to the controller; in a storm of them, those beyond
    --packet-ins wait at the switch or are dropped there, port by port, so that statistics and
    probes come through. It can be changed at any time, without a flush or a new connection;
    attach BRIDGE alone says how many were dropped since the bridge connected.
    """
    from sncontroller import attach as effects
    from sncontroller.controller_row import PacketIns

    limit = None if packet_ins is None else PacketIns.limited(packet_ins)
    outcome = effects.attach(_bridge(bridge, ovsdb, rundir), controller, limit)
    _report(outcome, json_)


@click.command()
@BRIDGE
@click.option(
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(readable=False),
    help="The configuration; needed while a group has arp: switch.",
)
@click.option(
    "--controller", metavar="TARGET", help="Remove this controller too, if attach did not set it."
)
@click.option("--now", is_flag=True, help="Even if connections to secondaries end by it.")
@click.option("--purge", is_flag=True, help="Leave nothing, not even for arp: switch addresses.")
@shell.of_switch
@shell.as_json
def detach(
    bridge: str,
    file: str | None,
    controller: str | None,
    now: bool,
    purge: bool,
    ovsdb: str | None,
    rundir: str | None,
    json_: bool,
) -> None:
    """Take sncontroller off BRIDGE and leave the service to the primary alone.

    Removes our entries and our controller, restores the fail mode that attach found, and keeps
    everything else. Connections to the primary go on. An address of a group with arp: switch is
    nobody's without us: a few flows that answer for it and lead to the primary stay, for which
    --config is needed; --purge takes them away, too.
    """
    from sncontroller import attach as effects
    from sncontroller import offline

    live = _bridge(bridge, ovsdb, rundir)
    keep: frozenset[str] = frozenset()
    if file is not None and not purge:
        keep = offline.handbacks(shell.configuration(file), live)
    if not purge:
        _require_no_answers(live, keep, file)
    if not now:
        effects.require_primaries_alone(live)
    _report(effects.detach(live, keep, controller), json_)


def _require_no_answers(live: Bridge, keep: frozenset[str], file: str | None) -> None:
    """Raise ``RefusedError`` when an address would be nobody's."""
    from sncontroller import offline
    from sncontroller.bridge import Entries

    kept = offline.answered_by_switch(Entries(keep))
    zones = offline.answered_by_switch(offline.entries(live).ours) - kept
    if zones:
        numbers = ", ".join(str(zone) for zone in sorted(zones))
        what = f"{live.name} answers for the address of group number {numbers} (arp: switch)"
        if file is None:
            mend = "; give --config FILE to keep it reachable, or --purge to give it up"
        else:
            mend = f", which {file} does not have; give the file that has it, or --purge"
        raise RefusedError(what + mend)


def _report(outcome: Outcome, json_: bool) -> None:
    if not json_:
        click.echo(outcome.message)
        return
    link = outcome.link
    shell.print_json(
        {
            "changed": outcome.changed,
            "message": outcome.message,
            "kept": _counts(outcome.kept),
            "removed": _counts(outcome.removed),
            "away_s": round(outcome.away_s, 4),
            "connected": None if link is None else link.connected,
            "packet_ins_dropped": None if link is None else link.dropped,
        }
    )


def _counts(entries: Any) -> dict[str, int]:
    return {kind: len(getattr(entries, kind)) for kind in ("flows", "groups", "meters")}


def _bridge(name: str, ovsdb: str | None, rundir: str | None) -> Bridge:
    from sncontroller.bridge import Switch

    return Switch(ovsdb, rundir).bridge(name)
