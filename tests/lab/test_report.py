"""The report: figures and verdict from made-up records, every reason to fail once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sncontroller.lab.plot import draw
from sncontroller.lab.report import Aftermath, Mark, Record, Report, drains, report
from sncontroller.lab.samples import (
    EventSeen,
    GroupSeen,
    Moment,
    NodeSeen,
    Traffic,
    bucket,
    merged,
    percentile_ms,
)
from sncontroller.lab.scenario import Phase, Scenario
from sncontroller.lab.view import Lines, Live

BEGAN_S = 1_000_000.0
ONE_NODE, PER_NODE = 20.0, 100
SCENARIO = Scenario(ONE_NODE, ramp_alone_s=2.0, alone_s=10.0)
CLEAN = Aftermath(True, (), {"cores": 2})
STORY = (
    (Phase.ALONE, 10, 0),
    (Phase.ATTACH, 12, 1),
    (Phase.RISE, 20, 2),
    (Phase.PEAK, 30, 4),
    (Phase.FALL, 40, 2),
    (Phase.QUIET, 45, 1),
)
"""Phases, when they end, and how many nodes serve in them."""


def group(nodes: int, draining: tuple[int, ...] = ()) -> GroupSeen:
    """A group with so many nodes serving and these draining."""
    states = dict.fromkeys(range(1, nodes + 1), "active")
    states |= dict.fromkeys(draining, "draining")
    return GroupSeen(
        name="web",
        addresses=("10.0.0.10",),
        load=0.5,
        wanted=nodes,
        connected=True,
        nodes=tuple(
            NodeSeen.model_validate(
                {
                    "name": f"web-{index}",
                    "index": index,
                    "role": "primary" if index == 1 else "secondary",
                    "state": state,
                    "slots": 256 // nodes if state == "active" else 0,
                    "load": 0.5,
                }
            )
            for index, state in states.items()
        ),
    )


def traffic(at_s: float, nodes: int, held: Mapping[str, int] | None = None) -> Traffic:
    """One second's sample, as many requests as the nodes can answer."""
    requests = PER_NODE * max(1, nodes)
    return Traffic(
        time_s=BEGAN_S + at_s,
        span_s=1.0,
        users=40,
        requests=requests,
        made_total=int(at_s * 10) + 1,
        held_total=3,
        latency={bucket(0.4 / max(1, nodes)): requests},
        by_node={f"web-{index}": PER_NODE for index in range(1, max(1, nodes) + 1)},
        held=dict(held or {}),
    )


def record() -> Record:
    """A run as it should be."""
    moments, samples = [], []
    start = 0
    for phase, end, nodes in STORY:
        for at_s in range(start + 1, end + 1):
            draining = (3,) if phase is Phase.FALL and at_s < 37 else ()
            sample = traffic(at_s, nodes, {"web-1": 2, **({"web-3": 1} if at_s < 35 else {})})
            seen = group(nodes, draining) if nodes else None
            moments.append(Moment(BEGAN_S + at_s, phase.value, 40, sample, seen))
            samples.append(sample)
        start = end
    return Record(
        SCENARIO,
        BEGAN_S,
        tuple(moments),
        tuple(samples),
        (EventSeen(time_s=BEGAN_S + 13, kind="active", node="web-2", reason="ok", took_s=1.0),),
        (Mark(BEGAN_S + 10, "attached", "br0", took_s=0.5),),
    )


def found(run: Record, aftermath: Aftermath = CLEAN) -> Report:
    """The report of a run."""
    return report(run, aftermath)


def with_last(run: Record, **totals: int) -> Record:
    """The run with other totals at its end."""
    last = run.samples[-1].model_copy(update={**totals, "errors": ("visit: reset",)})
    return replace(run, samples=(*run.samples[:-1], last))


def test_a_run_as_it_should_be_has_no_problem() -> None:
    """The figures are those of the record, and the verdict is good."""
    result = found(record())
    assert result.problems == ()
    assert result.ok
    assert (result.throughput.alone, result.throughput.peak) == (100.0, 400.0)
    assert result.throughput.gain == 4.0
    assert (result.nodes.peak, result.nodes.end) == (4, 1)
    assert result.connections.made == 451
    assert result.latency_ms["alone"].p50 == pytest.approx(400, rel=0.04)
    assert result.latency_ms["peak"].p99 == pytest.approx(100, rel=0.04)


def test_the_json_has_what_readers_rely_on() -> None:
    """The documented keys are there, and it is JSON."""
    plain = json.loads(json.dumps(found(record()).as_json()))
    assert plain["connections"]["failed"] == plain["connections"]["moved"] == 0
    assert plain["nodes"]["peak"] == 4
    assert plain["nodes"]["end"] == 1
    assert plain["throughput"] == {"alone": 100.0, "peak": 400.0, "gain": 4.0}
    assert plain["leftovers"] == []
    assert plain["foreign_flows_identical"] is True
    assert plain["machine"] == {"cores": 2}
    events = [(e["at_s"], e["what"], e["node"], e["took_s"], e["why"]) for e in plain["events"]]
    assert events == [(10.0, "attached", None, 0.5, "br0"), (13.0, "active", "web-2", 1.0, "ok")]


@pytest.mark.parametrize(
    ("run", "aftermath", "word"),
    [
        (with_last(record(), failed_total=2), CLEAN, "2 connections failed, first: visit: reset"),
        (with_last(record(), moved_total=1), CLEAN, "1 connections moved"),
        (with_last(record(), made_total=0), CLEAN, "no connection was made"),
        (replace(record(), late=("phase rise ended",)), CLEAN, "phase rise ended"),
        (record(), replace(CLEAN, foreign_flows_identical=False), "other entries"),
        (record(), replace(CLEAN, leftovers=("process 7: nginx",)), "left behind: process 7"),
        (record(), replace(CLEAN, clean_up_problems=("status 1",)), "status 1"),
        (
            replace(record(), scenario=replace(SCENARIO, expected_gain=5.0)),
            CLEAN,
            "4.00 times that of the primary alone, expected 5",
        ),
        (
            replace(record(), scenario=replace(SCENARIO, expected_nodes=5)),
            CLEAN,
            "4 nodes at the peak, expected 5",
        ),
        (
            replace(record(), moments=record().moments[:-10]),
            CLEAN,
            "3 nodes at the end, expected the primary alone",
        ),
    ],
)
def test_every_broken_expectation_is_one_line(run: Record, aftermath: Aftermath, word: str) -> None:
    """Each thing that must not be is named, and the verdict is bad."""
    result = found(run, aftermath)
    assert not result.ok
    assert any(word in problem for problem in result.problems)
    assert not any("\n" in problem for problem in result.problems)


def test_a_run_that_ended_at_once_is_a_bad_run_not_an_error() -> None:
    """Without any moment or sample there is a report all the same."""
    empty = Record(SCENARIO, BEGAN_S, (), (), (), ())
    assert not found(empty).ok


def test_a_drain_says_how_long_it_waited_for_connections() -> None:
    """The wait is from the drain's beginning until the last connection was seen; then it goes."""
    (drain,) = drains(record())
    assert (drain.node, drain.began_s, drain.held, drain.gone_s) == ("web-3", 31.0, 1, 37.0)
    assert drain.waited_s == 3.0


def test_percentiles_of_merged_samples_are_exact_to_four_percent() -> None:
    """Merging loses nothing but the buckets' width."""
    samples = [traffic(1, 1), traffic(2, 4)]
    total = merged(samples)
    assert sum(total.values()) == 500
    assert percentile_ms(total, 0.5) == pytest.approx(100, rel=0.04)
    assert percentile_ms(total, 0.99) == pytest.approx(400, rel=0.04)
    assert percentile_ms({}, 0.5) is None


def test_the_picture_is_drawn_whatever_was_seen(tmp_path: Path) -> None:
    """A full record and an empty one both become a PNG."""
    for name, run in (("full", record()), ("empty", replace(record(), moments=(), samples=()))):
        draw(run, 100.0, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_both_views_show_nodes_clients_and_events() -> None:
    """On a terminal and off it: the nodes, their state, the clients' counts, each event once."""
    run = record()
    for is_terminal, kind in ((True, Live), (False, Lines)):
        console = Console(record=True, width=140, force_terminal=is_terminal)
        with kind(BEGAN_S, console) as shown:
            for moment in run.moments:
                shown.show(moment, 200.0, run.events)
        text = console.export_text()
        assert "web-2" in text
        assert "draining" in text
        assert "failed 0" in text
        assert "active (1.0 s): ok" in text
