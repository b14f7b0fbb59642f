"""core.health: the section's checks, verdicts, damping and the breaker."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import ValidationError

from sncontroller.core.health import (
    BreakerState,
    DampingSpec,
    Health,
    HealthSpec,
    Kind,
    Verdict,
    adopted,
    aged,
    breaker,
    fit,
    initial,
    link_changed,
    observe,
)

TCP = HealthSpec.model_validate({"kind": "tcp", "source": "10.0.0.254"})
NONE = HealthSpec()


def spec_of(**section: Any) -> HealthSpec:
    """A specification, as the configuration would give it."""
    return HealthSpec.model_validate(section)


def problems(section: dict[str, Any]) -> dict[str, str]:
    """The complaints about ``section``, by path."""
    with pytest.raises(ValidationError) as refused:
        HealthSpec.model_validate(section)
    return {".".join(map(str, error["loc"])): error["msg"] for error in refused.value.errors()}


def after(spec: HealthSpec, health: Health, results: str, now: float = 0.0) -> Health:
    """The health after results, one per second: ``+`` good, ``-`` bad."""
    for second, result in enumerate(results):
        health = observe(spec, health, result == "+", f"saw {result}", now + second)
    return health


# The section


def test_default_is_not_probed_and_up() -> None:
    """Without a section nothing is asked, and a node serves as soon as its port is up."""
    health = initial(NONE, 5.0)
    assert (NONE.kind, health.verdict, health.since_s) == (Kind.NONE, Verdict.UP, 5.0)
    assert health.reason == "not probed (kind none)"


def test_defaults_are_those_of_the_documentation() -> None:
    """docs/health.md gives these numbers and their reasons."""
    spec = HealthSpec()
    assert (spec.interval_s, spec.rise, spec.fall, spec.jitter) == (1.0, 2, 3, 0.1)
    assert spec.probe_timeout_s == pytest.approx(0.7)
    assert (spec.breaker.share, spec.breaker.window_s) == (0.5, 5.0)
    damping = spec.damping
    assert (damping.penalty, damping.half_life_s) == (1000.0, 30.0)
    assert (damping.suppress, damping.reuse, damping.max_suppress_s) == (2000.0, 750.0, 120.0)
    assert damping.ceiling == 12_000.0


def test_one_probe_may_be_enough() -> None:
    """``rise: 1`` and ``fall: 1`` judge on a single result."""
    spec = spec_of(kind="tcp", source="10.0.0.254", rise=1, fall=1)
    assert after(spec, initial(spec, 0.0), "+").verdict is Verdict.UP
    assert after(spec, initial(spec, 0.0), "+-").verdict is Verdict.DOWN


def test_every_problem_is_reported_at_its_own_path() -> None:
    """Missing, foreign and impossible fields are all named at once."""
    found = problems(
        {"kind": "tcp", "path": "/x", "timeout_s": 3, "rise": 0, "bogus": 1, "target": "1.2.3.4"}
    )
    assert set(found) == {"source", "path", "timeout_s", "rise", "bogus", "target"}
    assert "is required for kind tcp" in found["source"]
    assert "does not belong to kind tcp" in found["path"]


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"kind": "ping"}, "kind"),
        ({"kind": "udp", "source": "10.0.0.254"}, "payload"),
        ({"kind": "udp", "source": "10.0.0.254", "payload": "hex:0g"}, "payload"),
        ({"kind": "udp", "source": "10.0.0.254", "payload": "x" * 1401}, "payload"),
        ({"kind": "arp"}, "target"),
        ({"kind": "arp", "target": "10.0.0.300"}, "target"),
        ({"kind": "arp", "target": "223.255.255.255+index"}, "target"),
        ({"kind": "arp", "target": "10.0.0.1+2"}, "target"),
        ({"kind": "icmp", "source": "224.0.0.1"}, "source"),
        ({"kind": "icmp", "source": "127.0.0.1"}, "source"),
        ({"kind": "http", "source": "10.0.0.254", "path": "/a b"}, "path"),
        ({"kind": "http", "source": "10.0.0.254", "path": "/a\r\nX: y"}, "path"),
        ({"kind": "http", "source": "10.0.0.254", "host": "a\n"}, "host"),
        ({"kind": "http", "source": "10.0.0.254", "expect_status": [200, 999]}, "expect_status.1"),
        ({"kind": "http", "source": "10.0.0.254", "expect_status": "299-200"}, "expect_status.0"),
        ({"kind": "http", "source": "10.0.0.254", "expect_status": "2xx"}, "expect_status.0"),
        ({"kind": "icmp", "via": "controller"}, "via"),
        ({"kind": "tcp", "via": "wire"}, "via"),
        ({"kind": "bfd", "path": "/x"}, "path"),
        ({"interval_s": 0.05}, "interval_s"),
        ({"interval_s": "nan"}, "interval_s"),
        ({"interval_s": "soon", "timeout_s": 2}, "interval_s"),
        ({"damping": {"reuse": 3000}}, "damping"),
        ({"damping": {"half_life_s": 300}}, "damping"),
        ({"breaker": {"share": 0}}, "breaker.share"),
    ],
)
def test_bad_sections_are_refused(section: dict[str, Any], path: str) -> None:
    """Each mistake is found where it was made, and nothing else is."""
    assert set(problems(section)) == {path}


def test_udp_bytes_and_their_way_back() -> None:
    """Text and hex become bytes, and a dumped section reads as the same one."""
    spec = spec_of(kind="udp", source="10.0.0.254", payload="hex:00ff", expect="pong")
    assert (spec.payload, spec.expect) == (b"\x00\xff", b"pong")
    assert HealthSpec.model_validate_json(spec.model_dump_json(exclude_unset=True)) == spec


def test_section_has_a_json_schema() -> None:
    """Editors can complete the section."""
    assert "interval_s" in json.dumps(HealthSpec.model_json_schema())


@pytest.mark.parametrize(
    ("given_statuses", "good", "bad"),
    [
        (None, 301, 404),
        (401, 401, 200),
        ([200, 503], 503, 301),
        ("200-299", 299, 300),
        (["404", "200 - 204"], 404, 205),
    ],
)
def test_accepted_statuses(given_statuses: Any, good: int, bad: int) -> None:
    """Without a list every 2xx and 3xx is good, with one only what it names."""
    extra = {} if given_statuses is None else {"expect_status": given_statuses}
    spec = spec_of(kind="http", source="10.0.0.254", **extra)
    assert spec.accepts(good)
    assert not spec.accepts(bad)


def test_target_ofs() -> None:
    """A rule with ``+index`` gives each node an address, and the primary may have another one."""
    common = spec_of(kind="arp", target="10.0.0.1")
    own = spec_of(kind="arp", target="10.0.0.100+index", primary_target="10.0.0.10")
    assert [str(common.target_of(index)) for index in (1, 2)] == ["10.0.0.1", "10.0.0.1"]
    assert [str(own.target_of(index)) for index in (1, 2)] == ["10.0.0.10", "10.0.0.102"]
    assert str(TCP.target_of(1)) == "0.0.0.0"


@given(st.floats(0.1, 60), st.integers(1, 10))
def test_default_timeout_finds_a_hang_in_time(interval_s: float, fall: int) -> None:
    """A node that hangs right after a good probe is DOWN within interval x fall and 0.1 s."""
    spec = spec_of(interval_s=interval_s, fall=fall)
    worst_s = interval_s + fall * spec.probe_timeout_s
    assert worst_s <= interval_s * fall + 0.1 + 1e-9
    assert 0 < spec.probe_timeout_s <= min(interval_s, 1.0)


def test_own_timeout_is_taken() -> None:
    """A configured timeout stays as it is."""
    assert spec_of(interval_s=2, timeout_s=1.5).probe_timeout_s == 1.5


# Verdicts


@pytest.mark.parametrize(
    ("results", "verdict", "reason"),
    [
        ("", Verdict.UNKNOWN, "not probed yet"),
        ("+", Verdict.UNKNOWN, "1 of 2 good probes, last: saw +"),
        ("-", Verdict.UNKNOWN, "1 of 3 probes failed, last: saw -"),
        ("++", Verdict.UP, "answers: saw +"),
        ("---", Verdict.DOWN, "3 probes failed, last: saw -"),
        ("----", Verdict.DOWN, "4 probes failed, last: saw -"),
        ("++--", Verdict.UP, "2 of 3 probes failed, last: saw -"),
        ("++--+--", Verdict.UP, "2 of 3 probes failed, last: saw -"),
        ("++---", Verdict.DOWN, "3 probes failed, last: saw -"),
        ("++---+", Verdict.DOWN, "1 of 2 good probes, last: saw +"),
        ("++---+-+", Verdict.DOWN, "1 of 2 good probes, last: saw +"),
        ("++---++", Verdict.UP, "answers: saw +"),
    ],
)
def test_rise_and_fall(results: str, verdict: Verdict, reason: str) -> None:
    """``rise`` good ones in a row are UP, ``fall`` bad ones in a row are DOWN; the reason says."""
    health = after(TCP, initial(TCP, 0.0), results)
    assert (health.verdict, health.reason) == (verdict, reason)


def test_since_is_when_the_verdict_changed() -> None:
    """More of the same does not move ``since_s``."""
    assert after(TCP, initial(TCP, 0.0), "++++---").since_s == 6.0
    assert after(TCP, initial(TCP, 0.0), "++++---").fell_at_s == 6.0
    assert after(TCP, initial(TCP, 0.0), "++++").since_s == 1.0


def test_adopted_node_is_trusted_until_probed() -> None:
    """After a restart a node in rotation stays there until probes say otherwise."""
    health = adopted(TCP, 3.0)
    assert (health.verdict, health.reason) == (Verdict.UP, "was in rotation, not probed yet")
    assert after(TCP, health, "---", 4.0).verdict is Verdict.DOWN


def test_link_down_is_down_at_once_and_voids_results() -> None:
    """A port that is down needs no probe, and a late good answer does not lift it."""
    health = link_changed(TCP, after(TCP, initial(TCP, 0.0), "++"), False, 2.0)
    assert (health.verdict, health.reason, health.since_s) == (
        Verdict.DOWN,
        "its port is down",
        2.0,
    )
    assert after(TCP, health, "+++", 3.0) == health
    assert link_changed(TCP, health, False, 9.0) == health


def test_link_up_starts_over() -> None:
    """After the link came back the service must answer first; where nothing is asked, at once."""
    for spec, verdict in ((TCP, Verdict.UNKNOWN), (NONE, Verdict.UP)):
        health = link_changed(spec, adopted(spec, 0.0), False, 1.0)
        assert link_changed(spec, health, True, 2.0).verdict is verdict


def test_booting_is_no_flap() -> None:
    """Failing before the first success costs no penalty."""
    health = after(TCP, initial(TCP, 0.0), "-" * 50)
    assert (health.falls, health.penalty, health.fell_at_s) == (0, 0.0, None)
    assert link_changed(TCP, health, False, 60.0).penalty == 0.0


# Damping


def test_third_fall_within_40_s_is_damped_and_ends() -> None:
    """A flapping node is held back although it answers, for 40 to 60 s, and then serves."""
    health = after(TCP, initial(TCP, 0.0), "++---" * 3 + "++", 0.0)
    assert (health.verdict, health.service, health.damped) == (Verdict.DOWN, Verdict.UP, True)
    assert health.reason.startswith("answers, but fell 3 times: held back for ")
    assert after(TCP, health, "+" * 35, 20.0).verdict is Verdict.DOWN
    assert after(TCP, health, "+" * 60, 20.0).verdict is Verdict.UP


def test_rare_falls_are_not_damped() -> None:
    """A fall every half-life never reaches the limit."""
    health = initial(TCP, 0.0)
    for fall in range(20):
        health = after(TCP, health, "++---++", fall * 30.0)
        assert health.verdict is Verdict.UP


def test_damped_node_that_dies_is_down_for_that() -> None:
    """The reason changes from damped to dead, and the verdict stays DOWN."""
    health = after(TCP, initial(TCP, 0.0), "++---" * 3 + "++---")
    assert not health.damped
    assert (health.verdict, health.reason) == (
        Verdict.DOWN,
        "3 probes failed, last: saw -",
    )
    assert health.fell_at_s == 14.0


def test_damping_can_be_turned_off() -> None:
    """With no penalty a node may flap for ever."""
    spec = spec_of(kind="tcp", source="10.0.0.254", damping={"penalty": 0})
    assert after(spec, initial(spec, 0.0), "++---" * 50 + "++").verdict is Verdict.UP


def test_flapping_link_is_damped_without_probes_and_ends_with_time() -> None:
    """Kind none: a link that flaps is held back, and ``aged`` lets it in again."""
    health = initial(NONE, 0.0)
    for second in range(0, 12, 2):
        health = link_changed(NONE, health, False, float(second))
        health = link_changed(NONE, health, True, second + 1.0)
    assert health.damped
    assert aged(NONE, health, 20.0).verdict is Verdict.DOWN
    assert aged(NONE, health, 200.0).verdict is Verdict.UP


def test_damping_ceiling_bounds_the_wait() -> None:
    """However often it flapped, a node waits ``max_suppress_s`` at the longest."""
    health = after(TCP, initial(TCP, 0.0), "++---" * 100 + "++")
    assert health.damped
    assert health.penalty <= TCP.damping.ceiling
    last_fall_s = 499.0
    assert aged(TCP, health, last_fall_s + TCP.damping.max_suppress_s).verdict is Verdict.UP


def test_clock_that_goes_back_changes_nothing() -> None:
    """A time before the last one counts as no time."""
    health = after(TCP, initial(TCP, 100.0), "++---", 100.0)
    assert aged(TCP, health, 50.0) == health


class OneNode(RuleBasedStateMachine):
    """A node under any order of results, links and pauses: what damping may and may not do."""

    spec = spec_of(kind="tcp", source="10.0.0.254", damping=DampingSpec().model_dump())

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.health = initial(self.spec, self.now)
        self.good = self.bad = 0

    @rule(ok=st.booleans(), seconds=st.floats(0, 20), times=st.integers(1, 8))
    def probes(self, ok: bool, seconds: float, times: int) -> None:
        """Some results of one kind."""
        for _ in range(times):
            self.now += seconds
            self.health = observe(self.spec, self.health, ok, "", self.now)
            if self.health.link_up:
                self.good, self.bad = (self.good + 1, 0) if ok else (0, self.bad + 1)

    @rule(up=st.booleans(), seconds=st.floats(0, 20))
    def link(self, up: bool, seconds: float) -> None:
        """The port goes up or down."""
        self.now += seconds
        if up != self.health.link_up:
            self.good = self.bad = 0
        self.health = link_changed(self.spec, self.health, up, self.now)

    @rule(seconds=st.floats(0, 500))
    def wait(self, seconds: float) -> None:
        """Time passes, and nothing else."""
        self.now += seconds
        self.health = aged(self.spec, self.health, self.now)

    @rule()
    def recovers_for_good(self) -> None:
        """Damping is not for ever: a node that goes on answering is UP in the end."""
        health = link_changed(self.spec, self.health, True, self.now)
        for second in range(self.spec.rise):
            health = observe(self.spec, health, True, "", self.now + second)
        end_s = self.now + self.spec.damping.max_suppress_s + self.spec.rise
        assert aged(self.spec, health, end_s).verdict is Verdict.UP

    @invariant()
    def a_lasting_failure_is_never_lost(self) -> None:
        """After ``fall`` bad probes in a row, or with a dead link, the verdict is DOWN."""
        if self.bad >= self.spec.fall or not self.health.link_up:
            assert self.health.verdict is Verdict.DOWN

    @invariant()
    def up_has_been_earned(self) -> None:
        """UP means that the service answers, over a live link, and is not held back."""
        if self.health.verdict is Verdict.UP:
            assert self.health.link_up
            assert self.health.service is Verdict.UP
            assert not self.health.suppressed
        assert 0 <= self.health.penalty <= self.spec.damping.ceiling
        assert self.health.reason


TestOneNode = OneNode.TestCase
TestOneNode.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# The breaker

UP = after(TCP, initial(TCP, -100.0), "+++", -100.0)
DEAD_LONG_AGO = after(TCP, UP, "---", -60.0)
FELL_NOW = after(TCP, UP, "---", -2.0)
DAMPED = after(TCP, initial(TCP, 0.0), "++---" * 3 + "++", -17.0)
NO_LINK = link_changed(TCP, UP, False, 0.0)
NEVER_UP = after(TCP, initial(TCP, 0.0), "---", -3.0)


def held(healths: list[Health], in_rotation: set[int], now: float = 0.0, **spec: Any) -> set[int]:
    """Whom the breaker holds; nodes are numbered from 1."""
    chosen = spec_of(kind="tcp", source="10.0.0.254", **spec)
    return set(breaker(chosen, dict(enumerate(healths, 1)), in_rotation, now).held)


@pytest.mark.parametrize(
    ("healths", "in_rotation", "expected"),
    [
        pytest.param([], set(), set(), id="nothing"),
        pytest.param([UP, UP], {1, 2}, set(), id="all well"),
        pytest.param([FELL_NOW], {1}, {1}, id="the only node: nothing is gained"),
        pytest.param([FELL_NOW, UP], {1, 2}, set(), id="1 of 2 fails over"),
        pytest.param([FELL_NOW, FELL_NOW], {1, 2}, {1, 2}, id="2 of 2"),
        pytest.param([FELL_NOW, FELL_NOW, UP], {1, 2, 3}, {1, 2}, id="2 of 3"),
        pytest.param([FELL_NOW, FELL_NOW, UP, UP], {1, 2, 3, 4}, set(), id="2 of 4"),
        pytest.param([FELL_NOW] * 3 + [UP], {4}, {1, 2, 3}, id="taken out just now: put back"),
        pytest.param([FELL_NOW] * 3 + [UP], {3, 4}, {1, 2, 3}, id="half taken out"),
        pytest.param([DEAD_LONG_AGO] * 3 + [UP], {4}, set(), id="dead for long and out: stay out"),
        pytest.param([DEAD_LONG_AGO] * 3 + [UP], {1, 2, 3, 4}, {1, 2, 3}, id="held ones stay"),
        pytest.param([DEAD_LONG_AGO] * 3 + [UP] * 3, {1, 2, 3, 4}, set(), id="enough new ones"),
        pytest.param([FELL_NOW, NO_LINK], {1, 2}, {1}, id="a dead link is never held"),
        pytest.param([NO_LINK, NO_LINK], {1, 2}, set(), id="dead links only"),
        pytest.param([NO_LINK, NO_LINK, FELL_NOW, UP], {1, 2, 3, 4}, set(), id="links not counted"),
        pytest.param([UP, NEVER_UP, NEVER_UP], {1}, set(), id="never up, never in: not counted"),
        pytest.param([DAMPED], {1}, {1}, id="the only node flaps"),
        pytest.param([DAMPED, UP], {1, 2}, set(), id="1 of 2 flaps"),
        pytest.param([DAMPED, DAMPED, UP], {1, 2, 3}, {1, 2}, id="mass flapping"),
        pytest.param([DAMPED, FELL_NOW], {1, 2}, {1}, id="damped but answering beats dead"),
        pytest.param([DAMPED, DEAD_LONG_AGO], {2}, {1, 2}, id="damped one is let in"),
        pytest.param([DAMPED, NO_LINK], {2}, {1}, id="damped one is all there is"),
    ],
)
def test_breaker_holds(healths: list[Health], in_rotation: set[int], expected: set[int]) -> None:
    """The table of docs/health.md, with the default share of one half."""
    assert held(healths, in_rotation, now=1.0) == expected


def test_fixtures_are_what_they_are_called() -> None:
    """The healths of the table above are in the states their names say."""
    assert [h.verdict for h in (UP, NEVER_UP, NO_LINK)] == [Verdict.UP, Verdict.DOWN, Verdict.DOWN]
    assert (DEAD_LONG_AGO.fell_at_s, FELL_NOW.fell_at_s, NEVER_UP.fell_at_s) == (-58.0, 0.0, None)
    assert DAMPED.damped


def test_share_of_one_still_leaves_somebody() -> None:
    """``share: 1`` takes out all but never the last ones."""
    assert held([FELL_NOW] * 3 + [UP], {1, 2, 3, 4}, breaker={"share": 1}) == set()
    assert held([FELL_NOW] * 4, {1, 2, 3, 4}, breaker={"share": 1}) == {1, 2, 3, 4}


def test_node_without_health_is_not_the_breakers_business() -> None:
    """A node in rotation that nothing is known of is neither counted nor held."""
    assert breaker(TCP, {}, {7}, 0.0) == BreakerState()


def test_breaker_says_why() -> None:
    """Each way of holding has its own sentence, and an idle breaker says nothing."""
    said = [
        breaker(TCP, dict(enumerate(healths, 1)), set(range(1, 5)), 1.0)
        for healths in ([UP], [FELL_NOW], [DAMPED], [FELL_NOW, FELL_NOW, UP])
    ]
    assert [state.open for state in said] == [False, True, True, True]
    assert [state.reason for state in said] == [
        "",
        "held in rotation: 1; looks dead, but no other node could serve",
        "held in rotation: 1; flapping, but answering, and too few others serve",
        "held in rotation: 1, 2; 2 of 3 nodes look dead, more than 50%: nothing is taken out, "
        "check the probes' path",
    ]


ANY_HEALTH = st.sampled_from([UP, DEAD_LONG_AGO, FELL_NOW, DAMPED, NO_LINK, NEVER_UP])


@given(st.lists(ANY_HEALTH, max_size=8), st.sets(st.integers(1, 9)), st.floats(0, 10))
def test_fit_settles_and_never_empties_a_group(
    healths: list[Health], in_rotation: set[int], now: float
) -> None:
    """Following ``fit`` converges; nobody serves only if all links are dead or none was ever in."""
    by_index = dict(enumerate(healths, 1))
    seen = []
    for _ in range(4):
        in_rotation = set(fit(by_index, breaker(TCP, by_index, in_rotation, now))) or in_rotation
        seen.append(in_rotation)
    assert seen[-1] == seen[-2]
    up = {node for node, health in by_index.items() if health.verdict is Verdict.UP}
    assert fit(by_index, breaker(TCP, by_index, in_rotation, now)) >= up
    assert not any(not by_index[node].link_up for node in breaker(TCP, by_index, up, now).held)


@given(st.integers(1, 12), st.randoms(use_true_random=False))
def test_all_probes_failing_takes_nobody_out(nodes: int, order: Any) -> None:
    """Results that fail one node after the other within the window end with all in rotation."""
    healths = {node: adopted(TCP, 0.0) for node in range(1, nodes + 1)}
    in_rotation = set(healths)
    turns = [node for node in healths for _ in range(TCP.fall)]
    order.shuffle(turns)
    for turn, node in enumerate(turns):
        now = turn * TCP.breaker.window_s / len(turns)
        healths[node] = observe(TCP, healths[node], False, "timeout", now)
        in_rotation = set(fit(healths, breaker(TCP, healths, in_rotation, now)))
        assert len(in_rotation) >= nodes * (1 - TCP.breaker.share)
    assert in_rotation == set(healths)
