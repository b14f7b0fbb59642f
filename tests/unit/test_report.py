"""core.report and core.latency: numbers out of readings, and what is unknown."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sncontroller.config import parse
from sncontroller.config.schema import schema
from sncontroller.core import latency
from sncontroller.core.load import CapacitySpec, Rates, load_of
from sncontroller.core.report import (
    Known,
    ManagementSpec,
    Reading,
    ReportSpec,
    SignalSpec,
    is_whole,
    known,
    value_of,
)
from tests.unit.configs import GROUP, changed, told, written

URL = "http://{address}:9100/metrics"
CPU = {
    "kind": "counter",
    "metric": "node_cpu_seconds_total",
    "minus": {"metric": "node_cpu_seconds_total", "labels": {"mode": ["idle", "iowait"]}},
    "per": "node_cpu_seconds_total",
}


def report(**section: Any) -> ReportSpec:
    """A report with one signal, unless ``section`` says else."""
    return ReportSpec.model_validate({"url": URL, "signals": {"queue": "/q"}, **section})


# The section --------------------------------------------------------------------------------------


def test_short_and_long_forms_are_the_same() -> None:
    """Text is a pointer when it begins with a slash, else a metric; one label value is a list."""
    short = report(signals={"a": "/x", "b": {"pointer": "/x", "per": "/y"}})
    assert short.signals["a"] == SignalSpec(pointer="/x")
    assert short.signals["b"].per is not None
    assert short.signals["b"].per.pointer == "/y"
    long = {"metric": "m", "labels": {"cpu": 0, "mode": "user", "dev": ["a", 1]}}
    signal = report(signals={"a": long}).signals["a"]
    assert signal.labels == {"cpu": ("0",), "mode": ("user",), "dev": ("a", "1")}
    assert report().is_json
    assert not report(signals={"a": "m"}).is_json


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("10.0.0.2", "http://10.0.0.2:9100/sn1-2/web-2/2"),
        ("fd00::2", "http://[fd00::2]:9100/sn1-2/web-2/2"),
    ],
)
def test_urls_of_nodes(address: str, url: str) -> None:
    """All four fields are replaced; IPv6 addresses get their brackets."""
    spec = report(url="http://{address}:9100/{port}/{name}/{index}")
    assert spec.needs_address
    assert spec.url_of(address, "web-2", 2, "sn1-2") == url
    fixed = report(url="http://127.0.0.1/{name}")
    assert not fixed.needs_address
    assert fixed.url_of(None, "web-2", 2, "") == "http://127.0.0.1/web-2"


def test_values_are_kept_for_three_intervals_or_as_said() -> None:
    """``keep_s`` is for those whose reports are precious."""
    assert report(interval_s=2).kept_s == 6
    assert report(interval_s=2, keep_s=60).kept_s == 60


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"url": "ftp://x"}, ".url: must be a URL such as http://{address}:9100/metrics, not"),
        ({"url": "http://{addr}/"}, ": url: {addr} is none of {address}, {name}, {index}, {port}"),
        ({"timeout_s": 9}, ": timeout_s must not exceed interval_s: a node is asked once at a"),
        ({"signals": {}}, ": signals: name at least one"),
        ({"signals": {"cpu": "a", "queue": "/q"}}, ": its signals must all be metrics, or all be"),
        ({"signals": {"cpu": {}}}, ".signals.cpu: name either a metric (Prometheus) or a pointer"),
        (
            {"signals": {"cpu": {"metric": "a", "pointer": "/a"}}},
            ".signals.cpu: name either a metric (Prometheus) or a pointer",
        ),
        (
            {"signals": {"cpu": {"pointer": "/a", "combine": "max"}}},
            ".signals.cpu: labels and combine belong to a metric",
        ),
        (
            {"signals": {"cpu": {"metric": "a", "per": "/b"}}},
            ".signals.cpu: its parts must all be metrics, or all be pointers",
        ),
        (
            {"signals": {"cpu": {"metric": "a b"}}},
            ".signals.cpu.metric: must be text of the form",
        ),
    ],
)
def test_wrong_reports(section: dict[str, Any], line: str) -> None:
    """One line each, at the place, whether there is one report or a list of them."""
    raw = {"url": URL, "signals": {"cpu": "a"}, **section}
    both = changed(capacity={"reports": {"cpu": 1, "queue": 1}}, reports=raw)
    (said, *more) = told(both)
    assert said.startswith(f"groups.web.reports{line}")
    assert more == []
    assert told({**both, "reports": [raw]})[0].startswith(f"groups.web.reports[0]{line}")


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        (
            {"reports": {"url": URL, "signals": {"cpu": "a"}}},
            "capacity.reports.cpu: is missing: the value of the reported signal 'cpu' that is",
        ),
        (
            {"capacity": {"reports": {"cpu": 1}}},
            "capacity.reports.cpu: nobody reports it; say where it is, as in reports: {url: ...,",
        ),
        (
            {
                "capacity": {"reports": {"cpu": 1}},
                "reports": [{"url": URL, "signals": {"cpu": "a"}}] * 2,
            },
            "reports: signal 'cpu' is in two reports; give one of them another name",
        ),
        (
            {
                "capacity": {"reports": {"cpu": 1}},
                "reports": {"url": "http://{address}/metrics", "signals": {"cpu": "a"}},
            },
            "reports: 10.0.0.10 port 80 is the group's: any node answers there; give the primary",
        ),
        (
            {"health": {"kind": "http", "via": "controller", "source": None}},
            "health.via: 10.0.0.10 port 80 is the group's: any node answers there; give the",
        ),
        (
            {"health": {"kind": "tcp", "via": "controller"}, "match": {"ports": []}},
            "health.port: is missing: match.ports names no port",
        ),
        (
            {"management": {"address": "10.0.0.1"}},
            "management.address: must be an address and the node's index, as 192.168.9.100+index",
        ),
        (
            {"management": {"address": "255.255.255.0+index"}},
            "management.address: 4294971135 (>= 2**32) is not permitted",
        ),
    ],
)
def test_reports_that_contradict_the_rest(sections: dict[str, Any], line: str) -> None:
    """Capacities and reports belong together; the group's address is no place to ask one node."""
    assert told(changed(**sections))[0].startswith(f"groups.web.{line}")


@pytest.mark.parametrize("kind", ["none", "bfd"])
def test_latency_needs_probes(kind: str) -> None:
    """A node that is asked nothing answers nothing late."""
    section = {"capacity": {"probe_latency_s": 0.2}, "health": {"kind": kind}}
    assert told({**GROUP, **section}) == [
        f"groups.web.capacity.probe_latency_s: cannot be measured with health kind {kind}, which "
        "sends no probes (line 2)"
    ]
    assert parse(written(web={**GROUP, "capacity": {"probe_latency_s": 0.2}})).groups


@pytest.mark.parametrize(
    "sections",
    [
        {"management": {"primary_address": "192.168.9.1"}},
        {"management": {"address": "192.168.9.0+index"}},
        {"match": {"ingress": ["up"]}},
        {"primary": {"address": "192.168.9.1"}},
        {"health": {"port": 8080}},
        {"match": {"protocol": "udp"}},
    ],
)
def test_a_primary_that_can_be_asked_beside_the_group(sections: dict[str, Any]) -> None:
    """By another address, another port, or past the ports that clients come in by."""
    health = {"kind": "http", "via": "controller", **sections.get("health", {})}
    group = {**changed(**{k: v for k, v in sections.items() if k != "health"}), "health": health}
    assert parse(written(web=group)).groups[0].health.asks


def test_the_documented_example_is_right() -> None:
    """docs/configuration.md: it parses, fits the schema, and says what it is said to say."""
    from tests.unit.test_config import PAGE

    text = next(part for part in PAGE.split("```yaml\n") if part.startswith("capacity:"))
    sections = yaml.safe_load(text.partition("```")[0])
    raw = written(web={**GROUP, **sections})
    jsonschema.validate(yaml.safe_load(raw), schema())
    cpu = parse(raw).groups[0].reports[0].signals["cpu"]
    assert cpu.per == cpu.model_copy().per
    assert cpu.minus is not None
    assert cpu.minus.labels == {"mode": ("idle", "iowait")}
    reread = ReportSpec.model_validate(
        json.loads(parse(raw).groups[0].reports[0].model_dump_json())
    )
    assert reread == parse(raw).groups[0].reports[0]


def test_management_addresses() -> None:
    """The rule beats what the plugin says; the primary's own beats the rule."""
    assert ManagementSpec.model_validate({"address": None}).address_of(2, "x") == "x"
    rule = ManagementSpec.model_validate({"address": "192.168.9.100+index"})
    assert (rule.address_of(1, "x"), rule.address_of(3, "x")) == ("192.168.9.101", "192.168.9.103")
    own = ManagementSpec.model_validate({"primary_address": "10.9.9.9"})
    assert (own.address_of(1, "x"), own.address_of(3, "x"), own.address_of(3, None)) == (
        "10.9.9.9",
        "x",
        None,
    )


# Values -------------------------------------------------------------------------------------------

GAUGE = SignalSpec.model_validate({"metric": "a"})
SHARE = SignalSpec.model_validate({"metric": "a", "minus": "b", "per": "a"})
COUNTER = SignalSpec.model_validate({"metric": "a", "kind": "counter"})
BUSY = SignalSpec.model_validate(CPU)


@pytest.mark.parametrize(
    ("signal", "reading", "before", "value"),
    [
        (GAUGE, Reading(7.0), None, 7.0),
        (GAUGE, Reading(None), Reading(7.0), None),
        (GAUGE, Reading(-1.0), None, 0.0),
        (SHARE, Reading(8.0, 2.0, 8.0), None, 0.75),
        (SHARE, Reading(8.0, None, 8.0), None, None),
        (SHARE, Reading(8.0, 2.0, None), None, None),
        (SHARE, Reading(8.0, 2.0, 0.0), None, None),
        (COUNTER, Reading(7.0), None, None),
        (COUNTER, Reading(17.0), Reading(7.0), 5.0),
        (COUNTER, Reading(3.0), Reading(7.0), None),
        (COUNTER, Reading(3.0), Reading(None), None),
        (BUSY, Reading(104.0, 51.0, 104.0), Reading(100.0, 50.0, 100.0), 0.75),
        (BUSY, Reading(100.0, 50.0, 100.0), Reading(100.0, 50.0, 100.0), None),
        (BUSY, Reading(104.0, 1.0, 104.0), Reading(100.0, 50.0, 100.0), None),
    ],
)
def test_values(
    signal: SignalSpec, reading: Reading, before: Reading | None, value: float | None
) -> None:
    """Two seconds apart: what cannot be known is unknown, and nothing is below zero."""
    assert value_of(signal, reading, before, 2.0) == value


def test_readings_of_one_moment_tell_no_rate() -> None:
    """An answer that was held up is no proof of a sprint."""
    assert value_of(COUNTER, Reading(9.0), Reading(7.0), 0.01) is None
    assert value_of(GAUGE, Reading(9.0), Reading(7.0), 0.01) == 9.0


NUMBERS = st.one_of(st.none(), st.floats(-1e12, 1e12))
READINGS = st.builds(Reading, NUMBERS, NUMBERS, NUMBERS)


@given(
    st.sampled_from([GAUGE, SHARE, COUNTER, BUSY]),
    READINGS,
    st.one_of(st.none(), READINGS),
    st.floats(0.0, 100.0),
)
def test_no_value_is_invented(
    signal: SignalSpec, reading: Reading, before: Reading | None, elapsed_s: float
) -> None:
    """Whatever was read: a value is a number from 0 on, and there is none from half a reading."""
    value = value_of(signal, reading, before, elapsed_s)
    assert value is None or (value >= 0 and math.isfinite(value) and is_whole(signal, reading))


def test_whole_readings() -> None:
    """Only numbers that the signal is made of must be there."""
    assert is_whole(GAUGE, Reading(0.0))
    assert not is_whole(GAUGE, Reading(None, 1.0, 1.0))
    assert is_whole(SHARE, Reading(0.0, 0.0, 0.0))
    assert not is_whole(SHARE, Reading(0.0, 0.0))


def test_values_count_until_they_are_too_old() -> None:
    """Then they are unknown, as one that never was."""
    values = {"cpu": Known(0.5, until_s=10.0)}
    assert known(values, "cpu", 10.0) == 0.5
    assert known(values, "cpu", 10.1) is None
    assert known(values, "queue", 1.0) is None


def test_unknown_signals_are_named_by_the_load() -> None:
    """A limited one that is not known; one without a limit does not matter."""
    capacity = CapacitySpec(bits_per_s=1000, reports={"cpu": 0.8, "queue": 50})
    found = load_of(Rates(bits_per_s=500), capacity, {"cpu": None, "queue": 5, "disk": None})
    assert found is not None
    assert (found.value, found.signal, found.unknown) == (0.5, "bits_per_s", ("cpu",))


# Latency ------------------------------------------------------------------------------------------


def test_latency_follows_and_is_smoothed() -> None:
    """One slow answer moves it a little, several move it there; after a long silence it is new."""
    at = latency.observed(None, 0.010, 0.0, 5.0)
    assert at.value_s == 0.010
    once = latency.observed(at, 1.0, 1.0, 5.0)
    assert 0.1 < once.value_s < 0.3
    for second in range(2, 30):
        once = latency.observed(once, 1.0, float(second), 5.0)
    assert once.value_s == pytest.approx(1.0, abs=0.01)
    assert latency.observed(once, 0.010, 40.0, 5.0).value_s == 0.010


def test_latency_that_is_too_old_is_unknown() -> None:
    """It is not zero, and not what it was."""
    at = latency.observed(None, 0.5, 10.0, 5.0)
    assert latency.known(at, 15.0, 5.0) == 0.5
    assert latency.known(at, 15.1, 5.0) is None
    assert latency.known(None, 15.0, 5.0) is None


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-1, 10)), min_size=1, max_size=20))
def test_latency_lies_between_what_was_measured(samples: list[tuple[float, float]]) -> None:
    """Whatever the clock does."""
    last, now = None, 0.0
    for value, later in samples:
        now += later
        last = latency.observed(last, value, now, 5.0)
        values = [v for v, _ in samples]
        assert min(values) - 1e-9 <= last.value_s <= max(values) + 1e-9
