"""What must hold between the sections of a group and between groups.

Owns the rules that no single section can know: those of one group in ``alone``, those of two in
``between``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import combinations

from sncontroller.config.rules.alone import ALONE
from sncontroller.config.rules.between import BETWEEN, probes_from_addresses
from sncontroller.config.wording import Found
from sncontroller.core.model import GroupSpec


def contradictions(groups: Iterable[GroupSpec]) -> tuple[Found, ...]:
    """Everything in these groups that contradicts itself, by path below the file's root."""
    everyone = tuple(groups)
    alone = (found for spec in everyone for rule in ALONE for found in _under(spec, rule(spec)))
    between = (
        found
        for rule, shared in BETWEEN
        for first, second in _pairs(everyone, shared)
        for found in _under(second, rule(first, second))
    )
    return (*alone, *between, *probes_from_addresses(everyone))


def _pairs(
    groups: tuple[GroupSpec, ...], shared: Callable[[GroupSpec], Iterable[Hashable]]
) -> Iterator[tuple[GroupSpec, GroupSpec]]:
    """The pairs that have something in common, in the order of the file, each once.

    Most groups of a large file have nothing: comparing each with each took seconds.
    """
    holders: dict[Hashable, list[int]] = defaultdict(list)
    for nth, spec in enumerate(groups):
        for value in shared(spec):
            holders[value].append(nth)
    pairs = {pair for nths in holders.values() for pair in combinations(nths, 2)}
    return ((groups[first], groups[second]) for first, second in sorted(pairs))


def _under(spec: GroupSpec, found: Iterable[Found]) -> Iterator[Found]:
    for keys, message in found:
        yield ("groups", spec.name, *keys), message
