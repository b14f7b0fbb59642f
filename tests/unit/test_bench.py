"""The benchmarks' figures: read rightly, told rightly, and the same wherever they stand."""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
import threading
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner

from bench import (
    LIMIT_S,
    PARTS,
    __main__,
    controlplane,
    counters,
    dataplane,
    disruption,
    machine,
    part,
    results,
    syns,
    targets,
)
from bench.attempts import NOT_MEASURED, Attempts, missing
from bench.counters import Datapath
from bench.dataplane import client, turns
from bench.dataplane.client import Rate, Visits
from bench.dataplane.turns import Load, Turn
from bench.results import Results
from bench.waiting import until
from sncontroller.lab.programs import LabError

PMD_STATS = """\
pmd thread numa_id 0 core_id 1:
  packets received: 100
  packet recirculations: 40
  avg. datapath passes per packet: 1.40
  miss with success upcall: 7
  miss with failed upcall: 3
main thread:
  packets received: 900
  packet recirculations: 460
  avg. datapath passes per packet: 1.51
  miss with success upcall: 5
  miss with failed upcall: 0
"""
WRK = (
    "Running 1s test @ http://10.0.0.10/\n"
    '{"requests": 5000, "took_us": 2000000, "connect": 1, "read": 2, "write": 3, "status": 4, '
    '"timeout": 5, "p50_us": 1500, "p99_us": 9000}\n'
)


@pytest.mark.parametrize("document", results.documents(), ids=lambda path: path.name)
def test_documents_bear_the_figures_of_the_report(document: Path) -> None:
    """Mend a difference with ``python -m bench.readme``."""
    text = document.read_text()
    assert results.filled(text, results.load()) == text


def test_a_figure_that_was_changed_by_hand_is_noticed() -> None:
    """Some digits of every block of figures, one at a time."""
    found, blocks = results.load(), re.compile(r"<!-- bench:\w+ -->\n((?:(?!<!--).)+)", re.DOTALL)
    changed = 0
    for document in results.documents():
        text = document.read_text()
        for block in blocks.finditer(text):
            digits = [each.start() + block.start(1) for each in re.finditer(r"\d", block.group(1))]
            for at in digits[:: len(digits) // 20 + 1]:
                other = text[:at] + str(9 - int(text[at])) + text[at + 1 :]
                assert results.filled(other, found) == text != other
                changed += 1
    assert changed > 20


def test_every_part_has_its_place_in_the_documents() -> None:
    """And the README shows the most important of all of them."""
    texts = {path.name: path.read_text() for path in results.documents()}
    for name in PARTS:
        assert sum(f"<!-- bench:{name} -->" in text for text in texts.values()) == 1
    assert "<!-- bench:readme -->" in texts["README.md"]


def test_the_report_is_of_a_whole_run_and_names_what_was_promised() -> None:
    """Figures in documents come from full runs, and each contender has its own."""
    found = results.load()
    assert not any(run["quick"] for run in found["runs"].values())
    assert set(results.sections(found)) == set(found["runs"]) == set(PARTS)
    for name in dataplane.NAMES:
        figures = found["dataplane"][name]
        rates = figures["new_connections_per_s"], figures["keepalive_requests_per_s"]
        assert all(rate > 0 for rate in rates) or figures["errors"] > 0


def test_the_table_beside_the_report_is_its_own() -> None:
    """``latest.md`` is what ``latest.json`` says."""
    table = (results.RESULTS / results.TABLE).read_text()
    assert table == results.table(results.load())


def test_filling_a_document_replaces_its_block_and_nothing_else() -> None:
    """A block of a part without figures stays as it is."""
    found = results.load()
    text = "a\n<!-- bench:dataplane -->\nold\n<!-- /bench -->\nb\n<!-- bench:none -->\nx\n"
    text += "<!-- /bench -->\n"
    filled = results.filled(text, found)
    assert filled.startswith("a\n<!-- bench:dataplane -->\nMedians of ")
    assert filled.endswith("<!-- /bench -->\nb\n<!-- bench:none -->\nx\n<!-- /bench -->\n")
    assert "old" not in filled
    assert results.filled(filled, found) == filled


def test_a_part_that_runs_alone_leaves_the_others() -> None:
    """Its section and how it ran are replaced, in the parts' order."""
    before: Results = {"runs": {"controlplane": {"took_s": 1}}, "controlplane": {"kept": True}}
    after = results.with_part(before, "dataplane", {"new": 1}, {"took_s": 2})
    assert list(after) == ["runs", "dataplane", "controlplane"]
    assert after["controlplane"] == {"kept": True}
    assert after["runs"] == {"controlplane": {"took_s": 1}, "dataplane": {"took_s": 2}}
    again = results.with_part(after, "dataplane", {"new": 2}, {"took_s": 3})
    assert again["dataplane"] == {"new": 2}
    assert again["runs"]["dataplane"] == {"took_s": 3}


def _nothing(name: str) -> dict[str, Any]:
    """What a part says when all its measurements failed."""
    attempts = Attempts(0.0, lambda line: None)
    why = attempts.made("x", dict)
    if name == "disruption":
        faults = dict.fromkeys(disruption.failover.FAULTS, why)
        each = dict.fromkeys(disruption.CONTENDERS, why)
        found = {"hashing": why, "scaling": each, "failover": dict.fromkeys(each, faults)}
        return {**found, "targets": disruption.targets(found)}
    sizes = {controlplane.groups.name_of(*size): why for size in controlplane.groups.SIZES}
    found = {"ours": sizes, "ovn": sizes, "reactive": why, "elasticity": {"netns": why}}
    return {**found, "targets": controlplane.targets(found)}


@pytest.mark.parametrize("name", ["disruption", "controlplane"])
def test_a_part_of_which_nothing_could_be_measured_says_so(name: str, tmp_path: Path) -> None:
    """Everywhere: in its tables, targets and pictures, in the README and at the end of the run."""
    measuring, section = part(name), _nothing(name)
    run = next(iter(results.load()["runs"].values()))
    found = results.with_part({}, name, section, run)
    shown = results.block(found, name)
    places = list(missing(section))
    assert len(places) == shown.lower().count("not measured: no time was left")
    assert all(place.endswith(": no time was left") for place in places)
    assert {each["met"] for each in section["targets"]} == {None}
    assert "not measured" in results.block(found, "readme")
    assert all(path.exists() for path in measuring.plot(section, tmp_path))


def test_one_measurement_that_fails_leaves_the_others() -> None:
    """What went wrong stands in its place, and what there was no time for, too."""

    def fails() -> dict[str, Any]:
        raise LabError("it broke\nand said more")

    said: list[str] = []
    attempts = Attempts(60.0, said.append)
    found = {"a": attempts.made("first", fails), "b": [attempts.made("second", lambda: {"x": 1})]}
    assert found == {"a": {NOT_MEASURED: "it broke"}, "b": [{"x": 1}]}
    assert list(missing(found)) == ["a: it broke"]
    mistaken = attempts.made("third", lambda: found["c"])
    assert mistaken == {NOT_MEASURED: "KeyError('c')"}
    assert said[:3] == ["first", "first: not measured: it broke\nand said more", "second"]
    assert any("Traceback" in line for line in said[3:])


def test_a_node_that_stays_although_it_is_dead_has_its_reason_in_the_table() -> None:
    """Medians of the rounds; one in which requests are lost to its end is enough to say so."""
    costs = {"requests": 100, "last_lost_s": 0.3, "first_success_s": 0.5, "errors": {}}
    noticed = {**costs, "lost": 4, "noticed": True, "doubt": ""}
    stays = {**costs, "lost": 32, "noticed": False, "doubt": "2 of 2 look dead"}
    summed = disruption.failover._summed([noticed, stays, noticed])
    others = {name: {} for name in disruption.CONTENDERS}
    shown = disruption.failover.table({**others, "ours": {"silent": summed}})
    last = "0.30 s; no end in 1 of 3 rounds"
    assert f"| silent, link up | ours | 4, 32 | 100 | {last} | 0.50 s |" in shown
    assert shown.endswith("\nours, silent, link up: it said: 2 of 2 look dead.")


def test_waiting_ends_when_it_holds_or_with_the_reason() -> None:
    """What is said at the end is found out at the end."""
    looked = iter([False, False, True])
    until(lambda: next(looked), "never")
    assert list(looked) == []
    with pytest.raises(LabError, match="the second of 2"):
        until(lambda: False, lambda: "the second of 2", 0.0)


def test_a_part_that_fails_leaves_the_results_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it ends, and what went wrong is told; one that succeeds takes its place."""
    results.save(results.load(), tmp_path)
    before = results.load(tmp_path)

    def ends(how: BaseException) -> list[str]:
        monkeypatch.setattr(disruption, "run", lambda quick, report: _raise(how))
        return __main__.measured("disruption", True, tmp_path)

    assert ends(LabError("no switch")) == ["disruption: no switch"]
    assert "KeyError: 'x'" in ends(KeyError("x"))[0]
    limit_s = LIMIT_S["disruption"]
    assert ends(__main__.Overtime()) == [f"disruption: not done after {limit_s:.0f} s"]
    assert results.load(tmp_path) == before
    monkeypatch.setattr(disruption, "run", lambda quick, report: _nothing("disruption"))
    troubles = __main__.measured("disruption", True, tmp_path)
    assert troubles[0] == "disruption, hashing: no time was left"
    after = results.load(tmp_path)
    assert after["dataplane"] == before["dataplane"]
    assert after["disruption"]["hashing"] == {NOT_MEASURED: "no time was left"}


def _raise(error: BaseException) -> NoReturn:
    raise error


def test_a_part_that_takes_too_long_is_ended() -> None:
    """And cleans up before the next one begins."""
    cleaned = threading.Event()

    def hangs() -> None:
        with __main__.limited(0.05):
            try:
                threading.Event().wait()
            finally:
                cleaned.set()

    with pytest.raises(__main__.Overtime):
        hangs()
    assert cleaned.is_set()
    with __main__.limited(60.0):
        pass
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [(["--help"], 0, "dataplane, disruption, controlplane"), (["foo"], 2, "'foo' is not one of")],
)
def test_the_command_line_says_what_there_is(arguments: list[str], status: int, said: str) -> None:
    """An unknown part ends with 2 and the names of those there are."""
    done = CliRunner().invoke(__main__.main, arguments)
    assert (done.exit_code, said in done.output) == (status, True)
    assert all(name in done.output for name in PARTS)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Both files appear; the JSON is the value."""
    found = {"runs": {}}
    results.save(found, tmp_path)
    assert results.load(tmp_path) == found
    assert (tmp_path / results.TABLE).read_text().startswith("# Benchmarks")
    assert results.load(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("found", "bounds", "met"),
    [
        (0.95, {"at_least": 0.95}, True),
        (0.949, {"at_least": 0.95}, False),
        (1.6, {"at_most": 1.6}, True),
        (1.61, {"at_most": 1.6}, False),
        (None, {"at_most": 1.6}, None),
    ],
)
def test_a_target_is_met_missed_or_not_measured(
    found: float | None, bounds: dict[str, float], met: bool | None
) -> None:
    """The bound itself is within."""
    each = targets.target("x", found, **bounds)
    assert each["met"] is met
    said = {True: "| met |", False: "| **missed** |", None: "| not measured |"}[met]
    assert targets.table([each]).endswith(said)


def test_the_machine_is_described_by_what_is_there() -> None:
    """A program that is not installed is left out, not guessed."""
    found = machine.machine()
    assert found["cores"] >= 1
    assert found["open_vswitch"] is not None
    shown = machine.described({**found, "haproxy": None})
    assert "haproxy" not in shown
    assert f"open vswitch {found['open_vswitch']}" in shown


# counters


def test_datapath_counters_are_summed_over_threads() -> None:
    """Packets, recirculations and upcalls that went well."""
    found = counters.parsed_datapath(PMD_STATS)
    assert found == Datapath(packets=1000, recirculations=500, upcalls=12)
    assert found.passes_per_packet == 1.5
    assert (found - found).passes_per_packet is None
    assert counters.parsed_datapath_flows("  flows  : (current 12) (avg 1) (max 30)\n") == 12


def test_processor_time_and_memory_of_this_process() -> None:
    """Time only grows; a process that is gone has used none."""
    pid = int(Path("/proc/self").resolve().name)
    before = counters.cpu_s([pid])
    assert sum(range(3_000_000)) > 0
    assert counters.cpu_s([pid, 2**22 + 1]) >= before > 0
    assert counters.memory_mib(pid) > 1
    assert counters.tree(pid)[0] == pid


def test_all_kinds_of_wrk_s_errors_count() -> None:
    """So do the attempts in which it could not even begin."""
    rate = client.parsed_rate(WRK, failed=10)
    assert (rate.per_s, rate.errors, rate.p50_ms, rate.p99_ms) == (2500.0, 25, 1.5, 9.0)
    with pytest.raises(LabError):
        client.parsed_rate("unable to connect\n")


def test_frames_have_right_checksums() -> None:
    """Checked by adding up, as a receiver does: conntrack drops what is wrong."""
    seen = set()
    sent = syns.frames(bytes(6), "10.0.0.10", "02:00:00:00:00:01", 50_002)
    for number, frame in islice(enumerate(sent), 49_998, None):
        assert len(frame) == 54
        ip, tcp = frame[14:34], frame[34:]
        pseudo = ip[12:20] + struct.pack("!BBH", 0, 6, len(tcp))
        assert _ones_sum(ip) == _ones_sum(pseudo + tcp) == 0xFFFF
        source, port = socket.inet_ntoa(ip[12:16]), int.from_bytes(tcp[:2], "big")
        assert (source, port) == syns.flow(number)
        seen.add((source, port))
    assert len(seen) == 4


def test_syns_of_other_flows_begin_where_the_last_ones_ended() -> None:
    """Whoever sends twice sends other flows by saying which is the first."""
    ends = "10.0.0.10", "02:00:00:00:00:01"
    whole = list(syns.frames(bytes(6), *ends, 8))

    assert list(syns.frames(bytes(6), *ends, 5, first=3)) == whole[3:]


def _ones_sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


# summaries


def _turn(new_per_s: int, keep_per_s: int = 1000, errors: int = 0) -> Turn:
    def load(per_s: int, wrong: int) -> Load:
        rate = Rate(requests=2 * per_s, span_s=2.0, errors=wrong, p50_ms=1.0, p99_ms=2.0)
        return Load(
            rate, Datapath(20 * per_s, 10 * per_s, per_s), switch_cpu_s=1.0, other_cpu_s=0.5
        )

    visits = Visits(took_us=(1000, 2000, 3000), errors=1)
    return Turn(load(new_per_s, errors), load(keep_per_s, 0), visits, 4, 7)


def test_a_summary_takes_medians_and_ratios_within_rounds() -> None:
    """A round in which everything was slow changes no ratio."""
    rounds = [
        {"normal": _turn(1000), "conntrack": _turn(900)},
        {"normal": _turn(100), "conntrack": _turn(95, errors=3)},
        {"normal": _turn(2000)},
    ]
    found = turns.summary("conntrack", rounds)
    assert found["new_connections_per_s"] == 497.5
    assert found["new_connections_per_s_spread"] == [95, 900]
    assert found["of_normal"] == {"new_connections": 0.925, "keepalive_requests": 1.0}
    assert found["errors"] == 2 + 3
    assert found["passes_per_packet"]["new_connections"] == 1.5
    assert found["upcalls_per_connection"] == 0.5
    assert found["latency_ms"]["connection_p50"] == 2.0
    assert found["openflow_entries"] == 7
    assert turns.summary("ovn", rounds) == {}
    assert turns.ratio(rounds, "conntrack", "ovn", "new") is None


def test_the_table_does_without_a_contender_that_never_answered() -> None:
    """It says so for one that sometimes did not."""
    rounds = [{name: _turn(1000) for name in dataplane.NAMES if name != "ovn"}]
    mishaps = {"ovn": dataplane._Mishaps(failures=3), "nginx": dataplane._Mishaps(crashes=2)}
    section: dict[str, Any] = {
        name: dataplane._contender(
            turns.summary(name, rounds), mishaps.get(name, dataplane._Mishaps())
        )
        for name in dataplane.NAMES
    }
    section.update(rounds=1, backends=3, pinned_flows={}, ratios=dataplane._ratios(rounds))
    shown = dataplane.table(section)
    assert "| ovn | none | | none | | rounds without an answer: 3 |" in shown
    assert (section["ovn"]["new_connections_per_s"], section["ovn"]["errors"]) == (0, 3)
    assert "rounds in which the switch died: 2" in shown
    met = {each["name"]: each["met"] for each in dataplane.targets(section)}
    assert met["conntrack to OVN, new connections"] is None
    assert met["conntrack to NORMAL, new connections"] is True
    assert met["reactive, errors"] is False
    assert json.loads(json.dumps(section)) == section


def test_percentiles_are_values_that_occurred() -> None:
    """The last one for all of them; None of none."""
    assert turns.percentile([3.0, 1.0, 2.0], 0.5, 1.0) == 2.0
    assert turns.percentile([3.0, 1.0, 2.0], 0.99, 1.0) == 3.0
    assert turns.percentile([], 0.5, 1.0) is None
