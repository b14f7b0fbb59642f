"""Slots change hands again and again, and in between SYNs go straight to theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sncontroller.lab.net import isolate
from tests.lab.failover_lab import ADDRESS, running, visits

TO = {"address": ADDRESS, "port": 80}


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


def test_every_connection_lives_through_every_change(tmp_path: Path) -> None:
    """30 held connections and new ones all the time, over drains and their ends; 1 s to settle."""
    patient = {"idle_s": 8, "deadline_s": 120}
    with running(tmp_path, pin={"syn_settle_s": 1}, drain=patient) as lab:
        agent, holder = lab.visitor(), lab.visitor()
        assert holder.do("open", count=30, **TO)["failed"] == 0
        churn = holder.start("churn", rounds=10_000, pause_s=0.05)
        number = agent.start("visit", total=100_000, width=4, **TO)
        for verb in ("drain", "undrain") * 2:
            for node in ("web-2", "web-3"):
                lab.until(lab.goes_straight, "SYNs never go straight to their slots")
                before = lab.slots()
                lab.verb(node, verb)
                lab.until(lambda old=before: lab.slots() != old, "no slot changed hands")
        lab.until(lab.goes_straight, "SYNs never go straight to their slots")
        lab.consistent()
        agent.do("halt")
        holder.do("stop")
        seen, held = visits(agent, number), holder.wait(churn)
        print(f"\nstraight: {len(seen.all)} connections, {held}")
        assert seen.failed == ()
        assert (held["held"], held["broken"], held["moved"]) == (30, 0, 0)
