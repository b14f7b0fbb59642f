"""Traces times policies: what is run, and how the runs of one cell are put together.

Owns the built-in policies' settings and the rule that numbers which hold for one seed and one phase
only are worth little: a cell can be run several times, each with its own noise and with the trace's
day begun elsewhere, and the worst of them is reported beside the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sncontroller.core.scaling import (
    ManualSpec,
    Policy,
    PredictiveSpec,
    ScalingSpec,
    TargetSpec,
    ThresholdSpec,
)
from sncontroller.simulate.simulation import Result, Setting, run
from sncontroller.simulate.traces import DAY_S, Noise, Trace, generated

TRACKER = "tracker"
"""The name of the 25-line tracker, which is no policy."""
YESTERDAY_SEED = 10_000
PHASE_S = int(0.381966 * DAY_S)
"""Every further run begins this much later in the day: the golden section spreads them well."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy, and how its row is called; no spec means the 25-line tracker."""

    name: str
    spec: ScalingSpec | None

    @property
    def learns(self) -> bool:
        """Whether it is given the day before."""
        return isinstance(self.spec, PredictiveSpec)


@dataclass(frozen=True, slots=True)
class Course:
    """A trace of a given seed and phase, and the days before it."""

    today: Trace
    before: tuple[Trace, ...] = ()


Source = Callable[[int], Course]
"""The course of the n-th run."""


@dataclass(frozen=True, slots=True)
class Cell:
    """All runs of one policy on one trace."""

    runs: tuple[Result, ...]

    @property
    def first(self) -> Result:
        """The run that is shown."""
        return self.runs[0]

    @property
    def worst_ratio(self) -> float:
        """The highest ratio to the optimum of all runs."""
        return max(run.optimum_ratio for run in self.runs)

    @property
    def worst_violation_share(self) -> float:
        """The highest share of seconds above load 1.0 of all runs."""
        return max(run.slo_violation_share for run in self.runs)


def built_in(name: str, max_nodes: int) -> Contender:
    """A policy with its defaults. Raises ``ValueError`` when there is none of that name."""
    specs: dict[str, ScalingSpec | None] = {
        TRACKER: None,
        Policy.TARGET.value: TargetSpec(max=max_nodes),
        Policy.PREDICTIVE.value: PredictiveSpec(max=max_nodes),
        Policy.THRESHOLD.value: ThresholdSpec(max=max_nodes),
        Policy.MANUAL.value: ManualSpec(max=max_nodes, nodes=max_nodes),
    }
    if name not in specs:
        raise ValueError(f"no policy {name!r} to simulate; there are {', '.join(specs)}")
    return Contender(name, specs[name])


def generated_source(
    name: str, seed: int, noise_share: float, noise: Noise, shift_s: float
) -> Source:
    """The courses of a generated trace: each with its own noise, phase and day before."""

    def course(nth: int) -> Course:
        start_s = (shift_s + nth * PHASE_S) % DAY_S

        def day(day_seed: int) -> Trace:
            return generated(name, day_seed, noise_share=noise_share, kind=noise, shift_s=start_s)

        return Course(day(seed + nth), (day(seed + nth + YESTERDAY_SEED),))

    return course


def cells(
    sources: Sequence[tuple[str, Source]],
    contenders: Sequence[Contender],
    setting: Setting,
    runs: int = 1,
) -> Iterator[tuple[str, str, Cell]]:
    """Every trace's and contender's names and cell, as they get done."""
    for trace, source in sources:
        courses = [source(nth) for nth in range(runs)]
        for contender in contenders:
            results = tuple(
                run(
                    course.today,
                    contender.spec,
                    setting,
                    name=contender.name,
                    history=course.before if contender.learns else (),
                )
                for course in courses
            )
            yield trace, contender.name, Cell(results)
