"""Commands of the core that leave by the controller's own network, each in a green thread.

Owns how many are under way and how long each may take. Nothing here waits: a command returns at
once, its result comes to ``emit`` later. A node that is late delays nobody: it keeps its own thread
waiting, and no longer than its timeout.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import eventlet
from eventlet.semaphore import Semaphore

from sncontroller.core.commands import AskNode, FetchReport, SetBfd
from sncontroller.core.events import Event
from sncontroller.management import ask, fetch, ovsdb

LOG = logging.getLogger(__name__)
AT_ONCE = 512
"""Connections that may be open at one time; beyond it the others' timeouts run while they wait."""

Command = AskNode | FetchReport | SetBfd


class Desk:
    """Carries out commands; sockets must be green (``eventlet.monkey_patch``)."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._free = Semaphore(AT_ONCE)
        self._settings = Semaphore(1)

    def carry_out(self, command: Command) -> None:
        """Begin to carry out a command."""
        eventlet.spawn_n(self._carried_out, command)

    def _carried_out(self, command: Command) -> None:
        try:
            event = self._result(command)
        except Exception:
            LOG.exception("cannot carry out %s", type(command).__name__)
            return
        if event is not None:
            self._emit(event)

    def _result(self, command: Command) -> Event | None:
        match command:
            case SetBfd():
                with self._settings:  # in the order in which they were asked for
                    return ovsdb.bfd(command)
            case AskNode():
                return self._within(command.spec.probe_timeout_s, lambda: ask.node(command))
            case FetchReport():
                limit_s = command.spec.fetch_timeout_s
                late = f"no answer within {limit_s:g} s"
                event = self._within(limit_s, lambda: fetch.report(command))
                return event or fetch.reported(command, {}, late)

    def _within(self, limit_s: float, call: Callable[[], Event | None]) -> Event | None:
        """The call's result; ``None`` when time was up first."""
        timeout = eventlet.Timeout(limit_s)
        try:
            with self._free:
                return call()
        except eventlet.Timeout as expired:
            if expired is not timeout:
                raise
            return None
        finally:
            timeout.cancel()
