"""Putting a bridge under our controller, and giving it back, without anybody noticing.

Open vSwitch flushes a bridge's flows, groups and meters when its first controller is configured,
when the last one is removed, and when the fail mode of a bridge without controllers changes (seen
on 3.1.0). So both ways go through a *placeholder*: a controller row that leads nowhere. While it is
there nobody else writes entries, and replacing it by the real one flushes nothing.

    attach   save, placeholder and fail_mode=secure (flush), put back, compare, real controller
    detach   placeholder, our entries out, compare, no controller and the old fail mode (flush),
             put back, compare

The entries are away for the time between the flush and one atomic bundle: about 20 ms, which a TCP
connection bridges with one retransmission. They are also in a file, whose name is written to the
bridge's row in the same transaction as the flush, so that an interrupted run can be finished by
the next one. Counters and timeouts of foreign entries start again; nothing else of them changes.

fail_mode=secure keeps the entries in force when the controller is away. Without it (standalone, the
default) Open vSwitch covers everything with a rule of its own that forwards like a plain switch.

The controller's row also says how many packet-ins may come (``controller_row``). A row that
somebody else made for the same controller gets that, too, where it says nothing; detach puts it
back.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sncontroller import backup, controller_row
from sncontroller.bridge import MARK, Bridge, Controller, Entries, Settings
from sncontroller.controller_row import Link, PacketIns
from sncontroller.core.layout import (
    COOKIE_MAGIC,
    COOKIE_MAGIC_MASK,
    PRIMARY_INDEX,
    group_origin,
)
from sncontroller.errors import OperatorError, RefusedError

DEFAULT_CONTROLLER: Final = "tcp:127.0.0.1:6653"
_NOWHERE: Final = "tcp:127.0.0.1:1"
_FAIL_MODE: Final = "sncontroller-fail-mode"
_BACKUP: Final = "sncontroller-backup"
_PACKET_INS: Final = "sncontroller-packet-ins"
"""Key in the external_ids of a row that is not ours: what it said before, ``rate burst``."""
_IMPLICIT: Final = "flow delete_strict table=0,priority=0"
"""Takes away the NORMAL flow that a standalone bridge gets with every flush."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done to a bridge."""

    changed: bool
    message: str
    kept: Entries = field(default_factory=Entries)
    """Foreign entries that are there as before."""
    removed: Entries = field(default_factory=Entries)
    """Entries of ours that are gone."""
    away_s: float = 0.0
    """For how long the bridge was without its entries."""
    link: Link | None = None
    """How the bridge got on with the controller, where it had it already."""


def attach(
    bridge: Bridge, target: str | None = None, packet_ins: PacketIns | None = None
) -> Outcome:
    """Ensure that the bridge connects to the controller at ``target``, everything else as it is.

    ``None`` keeps the place, or the limit, that there is, and sets the usual one where there is
    none. Raises ``OperatorError``; then the bridge is as it was, or the message says what is not.
    """
    if target is not None:
        controller_row.require_target(target)
    finished = _finish_interrupted(bridge)
    settings = bridge.settings()
    bridge.require_controllable(settings)
    version = bridge.version(settings)
    ours = [each for each in settings.controllers if each.ours]
    if target is None:
        target = ours[0].target if ours else DEFAULT_CONTROLLER
    there = [each for each in settings.controllers if each.target == target]
    mode = "" if settings.fail_mode == "secure" else _standalone(bridge)
    if there:
        message = f"{bridge.name} has the controller {target} already ({there[0].link})"
        limit = _limited(there[0], packet_ins)
        if limit == there[0].packet_ins:
            return Outcome(finished, message + mode, link=there[0].link)
        bridge.switch.vsctl(*_set_limit(there[0], limit))
        return Outcome(True, f"{message}; now {limit}{mode}", link=there[0].link)
    if ours:
        bridge.switch.vsctl(
            *_set_limit(ours[0], _limited(ours[0], packet_ins)), f'target="{target}"'
        )
        return Outcome(True, f"{bridge.name}: controller {ours[0].target} is now {target}{mode}")
    limit = packet_ins or controller_row.DEFAULT
    if settings.controllers:
        beside = ", ".join(each.target for each in settings.controllers)
        if mode and not any(each.link.connected for each in settings.controllers):
            raise OperatorError(_forwards_alone(bridge, beside))
        bridge.switch.vsctl(*_add_row(bridge, target, limit))
        return Outcome(True, f"{bridge.name}: controller {target} added beside {beside}{mode}")
    return _attach_first(bridge, settings, version, target, limit)


def detach(bridge: Bridge, handback: Iterable[str] = (), target: str | None = None) -> Outcome:
    """Ensure that nothing of ours is on the bridge but the ``handback`` flows, nor our controller.

    Our controllers are those that ``attach`` made, and the one at ``target``. Raises
    ``OperatorError``.
    """
    finished = _finish_interrupted(bridge)
    settings = bridge.settings()
    version = bridge.version(settings)
    rows = [each for each in settings.controllers if each.ours or each.target == target]
    before = bridge.entries(version)
    keep = frozenset(handback)
    removed = before.ours - Entries(keep)
    restored = _restore_limits(bridge, settings, rows)
    if not rows and not removed and keep <= before.flows:
        if restored:
            return Outcome(True, f"{bridge.name} has its own limit of packet-ins again")
        return Outcome(finished, f"nothing of sncontroller's is on {bridge.name}")
    alone = bool(rows) and len(rows) == len(settings.controllers)
    with _undisturbed():
        # before anything is changed: there may be no room for it
        saved = backup.save(bridge, version, before.foreign | Entries(keep)) if alone else None
        try:
            for row in rows:
                bridge.switch.vsctl("set", "controller", row.uuid, f'target="{_NOWHERE}"')
            before = bridge.entries(version)
            removed = before.ours - Entries(keep)
            bridge.change(version, _removals(before.ours, keep))
            wanted = before.foreign | Entries(keep)
            _require_same(bridge, version, wanted)
        except OperatorError:
            if saved is not None:
                saved.unlink()
            raise
        away_s = _remove_rows(bridge, settings, rows, version, wanted, saved)
    message = f"{bridge.name} is without sncontroller: {removed} removed"
    return Outcome(True, message, before.foreign, removed, away_s)


def require_primaries_alone(bridge: Bridge) -> None:
    """Raise ``RefusedError`` while secondaries have flows that a detach would cut."""
    settings = bridge.settings()
    lines = bridge.entries(bridge.version(settings)).ours.groups
    ids = (int(line.partition(",")[0].removeprefix("group_id=")) for line in lines)
    origins = [origin for origin in map(group_origin, ids) if origin is not None]
    count = sum(1 for _, index in origins if index > PRIMARY_INDEX)
    if count:
        raise RefusedError(
            f"{count} secondar{'y' if count == 1 else 'ies'} on {bridge.name} would lose their "
            "connections; scale the groups to 1 first (sncontroller scale GROUP 1), or give --now"
        )


def _standalone(bridge: Bridge) -> str:
    return (
        "; its fail_mode stays standalone: without a controller it soon forwards like a plain "
        f"switch (ovs-vsctl set-fail-mode {bridge.name} secure)"
    )


def _forwards_alone(bridge: Bridge, controllers: str) -> str:
    """Open vSwitch ends its own forwarding for any controller that answers."""
    return (
        f"{bridge.name} forwards by itself while {controllers} does not answer (fail_mode "
        "standalone), and would stop that for any controller that does; start the other one, or "
        f"remove it (ovs-vsctl del-controller {bridge.name}), first"
    )


# The two ways ------------------------------------------------------------------------------------


def _attach_first(
    bridge: Bridge, settings: Settings, version: str, target: str, limit: PacketIns
) -> Outcome:
    with _undisturbed():
        before = bridge.entries(version)
        saved = backup.save(bridge, version, before)
        begun_s = time.monotonic()
        try:
            bridge.switch.vsctl(
                *_add_row(bridge, _NOWHERE, limit),
                *_set_fail_mode(bridge, "secure"),
                *("--", "set", "bridge", bridge.name),
                f'external_ids:{_FAIL_MODE}="{settings.fail_mode}"',
                f'external_ids:{_BACKUP}="{saved}"',
            )
            _put_back(bridge, version, before)
            away_s = time.monotonic() - begun_s
            _require_same(bridge, version, before)
            (row,) = (each for each in bridge.settings().controllers if each.ours)
            bridge.switch.vsctl(
                *("set", "controller", row.uuid, f'target="{target}"'),
                *_forget(bridge, _BACKUP),
            )
        except Exception as error:
            _undo_attach(bridge, settings, version, before, saved, error)
            raise
        saved.unlink()
    message = (
        f"{bridge.name}: controller {target} set, fail_mode secure, {limit}, {before} as before"
    )
    return Outcome(True, message, before, away_s=away_s)


def _undo_attach(
    bridge: Bridge,
    settings: Settings,
    version: str,
    before: Entries,
    saved: Path,
    error: Exception,
) -> None:
    """Leave the bridge as it was, and say so."""
    try:
        rows = [each for each in bridge.settings().controllers if each.ours]
        if rows:
            _clear(bridge, rows, settings.fail_mode, forget=(_FAIL_MODE, _BACKUP))
        _put_back(bridge, version, before)
        _require_same(bridge, version, before)
    except OperatorError as second:
        raise OperatorError(
            f"attach failed ({error}), and putting {bridge.name} back failed too ({second}); its "
            f"entries are in {saved}: ovs-ofctl -O {version} bundle {bridge.name} {saved}"
        ) from None
    saved.unlink()
    raise OperatorError(f"attach failed, {bridge.name} is as it was: {error}") from None


def _remove_rows(
    bridge: Bridge,
    settings: Settings,
    rows: list[Controller],
    version: str,
    wanted: Entries,
    saved: Path | None,
) -> float:
    """Take our controllers away; how long the bridge was without entries, in seconds."""
    fail_mode = settings.external_ids.get(_FAIL_MODE, settings.fail_mode)
    if saved is None:
        _clear(bridge, rows, fail_mode if rows else None, forget=(_FAIL_MODE,))
        return 0.0
    backup.write(saved, bridge, version, wanted)
    remember = (f'external_ids:{_BACKUP}="{saved}"',)
    begun_s = time.monotonic()
    _clear(bridge, rows, fail_mode, forget=(_FAIL_MODE,), remember=remember)
    _put_back(bridge, version, wanted)
    away_s = time.monotonic() - begun_s
    _require_same(bridge, version, wanted)
    bridge.switch.vsctl(*_forget(bridge, _BACKUP)[1:])
    saved.unlink()
    return away_s


def _finish_interrupted(bridge: Bridge) -> bool:
    """Put back what an interrupted run had taken away; whether there was one."""
    settings = bridge.settings()
    if _BACKUP not in settings.external_ids:
        return False
    saved = Path(settings.external_ids[_BACKUP])
    version = bridge.version(settings)
    with _undisturbed():
        try:
            lines = saved.read_text().splitlines()
        except OSError:
            lines = []  # removed after everything was in its place
        bridge.set_meters(version, [line[8:] for line in lines if line.startswith("# meter ")])
        bridge.change(version, [_IMPLICIT, *(line for line in lines if not line.startswith("#"))])
        rows = [each for each in settings.controllers if each.target == _NOWHERE]
        if rows:
            fail_mode = settings.external_ids.get(_FAIL_MODE, settings.fail_mode)
            wanted = bridge.entries(version)
            _clear(bridge, rows, fail_mode, forget=(_FAIL_MODE,))
            _put_back(bridge, version, wanted)
        bridge.switch.vsctl(*_forget(bridge, _BACKUP)[1:])
        saved.unlink(missing_ok=True)
    return True


# Steps -------------------------------------------------------------------------------------------


def _add_row(bridge: Bridge, target: str, limit: PacketIns) -> list[str]:
    """A controller's row with our mark."""
    row = [*controller_row.columns(target, limit), f"external_ids:{MARK}=attach"]
    create = ["--", "--id=@sn", "create", "controller", *row]
    return [*create, "--", "add", "bridge", bridge.name, "controller", "@sn"]


def _limited(row: Controller, wanted: PacketIns | None) -> PacketIns:
    """What the row is to say: what was wanted, else what it says, else the usual."""
    if wanted is not None:
        return wanted
    return controller_row.DEFAULT if row.packet_ins.per_s is None else row.packet_ins


def _set_limit(row: Controller, limit: PacketIns) -> list[str]:
    """Change it, and note in somebody else's row what it said at first."""
    command = ["set", "controller", row.uuid, *limit.columns]
    if not row.ours and _PACKET_INS not in row.external_ids:
        before = f"{row.packet_ins.per_s or ''} {row.packet_ins.burst or ''}"
        command.append(f'external_ids:{_PACKET_INS}="{before}"')
    return command


def _restore_limits(bridge: Bridge, settings: Settings, going: list[Controller]) -> bool:
    """Put back what attach changed in rows that stay; whether there was something."""
    changed = [
        row for row in settings.controllers if row not in going and _PACKET_INS in row.external_ids
    ]
    for row in changed:
        rate, _, burst = row.external_ids[_PACKET_INS].partition(" ")
        before = PacketIns(int(rate) if rate else None, int(burst) if burst else None)
        forget = ("--", "remove", "controller", row.uuid, "external_ids", _PACKET_INS)
        bridge.switch.vsctl("set", "controller", row.uuid, *before.columns, *forget)
    return bool(changed)


def _clear(
    bridge: Bridge,
    rows: list[Controller],
    fail_mode: str | None,
    forget: tuple[str, ...],
    remember: tuple[str, ...] = (),
) -> None:
    """Remove controllers, set the fail mode (``None`` leaves it) and notes, in one transaction."""
    command = [*_forget(bridge, *forget)]
    for row in rows:
        command += ["--", "remove", "bridge", bridge.name, "controller", row.uuid]
    if fail_mode is not None:
        command += _set_fail_mode(bridge, fail_mode)
    if remember:
        command += ["--", "set", "bridge", bridge.name, *remember]
    bridge.switch.vsctl(*command[1:])


def _set_fail_mode(bridge: Bridge, fail_mode: str) -> list[str]:
    if fail_mode:
        return ["--", "set-fail-mode", bridge.name, fail_mode]
    return ["--", "del-fail-mode", bridge.name]


def _forget(bridge: Bridge, *keys: str) -> list[str]:
    return ["--", "remove", "bridge", bridge.name, "external_ids", *keys]


def _put_back(bridge: Bridge, version: str, entries: Entries) -> None:
    """Entries to a bridge that was flushed."""
    if entries.meters:  # flows name them, and bundles cannot carry them
        bridge.set_meters(version, entries.meters)
    bridge.change(version, [_IMPLICIT, *backup.additions(entries)])


def _removals(ours: Entries, keep: frozenset[str]) -> list[str]:
    """Bundle lines that take away what is ours and put ``keep`` there."""
    ids = sorted(line.partition(",")[0] for line in ours.groups)
    return [
        f"flow delete cookie={COOKIE_MAGIC:#x}/{COOKIE_MAGIC_MASK:#x}",
        *(f"group delete {group_id}" for group_id in ids),
        *(f"flow add {line}" for line in sorted(keep)),
    ]


def _require_same(bridge: Bridge, version: str, wanted: Entries) -> None:
    """Raise unless the bridge has these entries; what has a timeout may come and go."""
    there = bridge.entries(version)
    missing, extra = (wanted - there).lasting, (there - wanted).lasting
    if missing or extra:
        one = next(iter((missing or extra).flows or (missing or extra).groups or ("a meter",)))
        what = "did not come back" if missing else "came from elsewhere"
        raise OperatorError(f"{missing or extra} {what} on {bridge.name}, as: {one}")


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back Ctrl-C and a polite kill until the bridge is whole again, for us and our tools."""
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    )
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
