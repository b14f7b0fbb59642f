"""What the controller itself costs, by the number of groups, and beside OVN's daemons.

groups        ours: cold push, one node's change, polls, restart, memory
ovn_groups    the same for northd and ovn-controller
setups        reactive flow set-ups per second, and a storm of packet-ins
elasticity    load step to decision, decision to the first flow on the new node
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from bench import Report, Section
from bench.attempts import NOT_MEASURED, Attempts
from bench.controlplane import elasticity, groups, ovn_groups, setups
from bench.targets import Target, target

BUDGET_S = 400.0
"""What has not begun by then is not measured."""
PUSHED_WITHIN_S, CHANGED_WITHIN_MS, CORE_SHARE, INDEPENDENT = 10.0, 20.0, 0.10, 1.5
SMALLEST, MANY, LARGEST = "1x2", "1000x2", "1000x16"


def run(quick: bool, report: Report) -> Section:
    """Measure; see ``bench.Part``."""
    attempts = Attempts(BUDGET_S, report)
    reactive = attempts.made("reactive pinning", lambda: setups.measured(quick, report))
    elastic = elasticity.measured(quick, attempts)
    ours: Section = {}
    peer: Section = {}
    for size in groups.QUICK_SIZES if quick else groups.SIZES:  # if time is short, the largest go
        name = groups.name_of(*size)
        for what, into, measure in (
            ("groups x nodes", ours, groups.measured),
            ("OVN, load balancers x backends", peer, ovn_groups.measured),
        ):
            into[name] = attempts.made(f"{what}: {name}", partial(measure, *size, quick))
    found: Section = {"ours": ours, "reactive": reactive, "elasticity": elastic, "ovn": peer}
    return {**found, "targets": targets(found)}


def targets(found: Section) -> list[Target]:
    """What was hoped for; nothing was found where nothing was measured."""
    sizes, storm = found["ours"], found["reactive"].get("storm", {})
    shares = {name: each.get("core_share") for name, each in sizes.items()}
    answered = storm["polls"] / storm["polls_due"] if storm else None
    return [
        *([_pushed(sizes[LARGEST])] if LARGEST in sizes else []),
        target(
            "one node's change, median, at every size that settled",
            max((each["median"] for each in _changes(sizes).values()), default=None),
            at_most=CHANGED_WITHIN_MS,
            unit="ms",
        ),
        *([_independent(_changes(sizes))] if MANY in sizes else []),
        *(
            target(f"share of a core at one poll per second, {name}", share, at_most=CORE_SHARE)
            for name, share in shares.items()
            if name.startswith("100x")
        ),
        target(
            "queue of new flows in a storm",
            storm.get("longest_queue"),
            at_most=storm.get("queue_bound"),
        ),
        target("share of the due polls answered in a storm", answered, at_least=0.9),
        target("polls in a storm that lacked an answer", storm.get("partial_polls"), at_most=0),
        target("living nodes taken for dead in a storm", storm.get("falls"), at_most=0),
    ]


def _changes(sizes: Section) -> dict[str, dict[str, float]]:
    return {name: each["change_ms"] for name, each in sizes.items() if "change_ms" in each}


def _independent(changes: dict[str, dict[str, float]]) -> Target:
    known = SMALLEST in changes and MANY in changes
    ratio = changes[MANY]["median"] / changes[SMALLEST]["median"] if known else None
    name = f"one node's change at {MANY}, as a multiple of that at {SMALLEST}"
    return target(name, ratio, at_most=INDEPENDENT)


def _pushed(size: dict[str, Any]) -> Target:
    """A push that was given up has taken at least as long as was waited."""
    if NOT_MEASURED in size:
        return target(f"{LARGEST} pushed", None, at_most=PUSHED_WITHIN_S, unit="s")
    push = size.get("cold_push", size["first_start"])
    took_s = push["took_s"] if push["settled"] else groups.WITHIN_S
    given_up = "" if push["settled"] else " (given up)"
    return target(f"{LARGEST} pushed{given_up}", took_s, at_most=PUSHED_WITHIN_S, unit="s")


def table(section: Section) -> str:
    """The section as Markdown."""
    return "\n".join(
        [
            "### Groups x nodes on one switch",
            "",
            *_sizes(section["ours"]),
            "",
            "The same for OVN, load balancers x backends:",
            "",
            *_ovn_sizes(section["ovn"]),
            "",
            "### Reactive pinning",
            "",
            *_reactive(section["reactive"]),
            "",
            "### Elasticity",
            "",
            elasticity.table(section["elasticity"]),
        ]
    )


def _sizes(sizes: dict[str, Any]) -> list[str]:
    lines = [
        "| groups x nodes | entries | configuration read | first start | cold push | restart "
        "| one change: median, p90 | poll | core at 1 poll/s | memory | longest silence |",
        "|---|" + "---:|" * 10,
    ]
    for name, size in sizes.items():
        if NOT_MEASURED in size:
            lines.append(_without(name, size, 10))
            continue
        phases = [size.get(name) for name in ("first_start", "cold_push", "restart")]
        silent_s = max(phase["longest_stall_s"] for phase in phases if phase is not None)
        change, poll = size.get("change_ms"), size.get("poll_ms")
        cells = [
            f"{size['groups']} x {size['nodes']}",
            f"{size.get('entries', '')}",
            f"{size['configuration_read_s']:.1f} s",
            *(_took(phase) for phase in phases),
            "" if not change else f"{change['median']:.1f} ms, {change['p90']:.0f} ms",
            "" if not poll else f"{poll['median']:.0f} ms",
            "" if "core_share" not in size else f"{size['core_share']:.1%}",
            f"{size['controller_mib']:.0f} MiB",
            f"{silent_s:.1f} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _without(name: str, size: dict[str, Any], cells: int) -> str:
    return f"| {name.replace('x', ' x ')} | not measured: {size[NOT_MEASURED]} {'| ' * cells}|"


def _took(phase: dict[str, Any] | None) -> str:
    if phase is None:
        return ""
    if phase["settled"]:
        return f"{phase['took_s']:.2f} s"
    return f"**not in {groups.WITHIN_S:.0f} s** ({phase['tables_confirmed']} tables)"


def _ovn_sizes(sizes: dict[str, Any]) -> list[str]:
    lines = [
        "| load balancers x backends | entries | all written | switch came back | restart "
        "| one change: median, most | memory: databases, northd, controller |",
        "|---|" + "---:|" * 6,
    ]
    for name, size in sizes.items():
        if NOT_MEASURED in size:
            lines.append(_without(name, size, 6))
            continue
        change, memory = size["change_ms"], size["memory_mib"].values()
        cells = [
            f"{size['groups']} x {size['nodes']}",
            f"{size['entries']}",
            *(f"{size[step]:.2f} s" for step in ("first_start_s", "cold_push_s", "restart_s")),
            f"{change['median']:.1f} ms, {change['most']:.0f} ms",
            ", ".join(f"{each:.0f}" for each in memory) + " MiB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _reactive(reactive: dict[str, Any]) -> list[str]:
    if NOT_MEASURED in reactive:
        return [f"Not measured: {reactive[NOT_MEASURED]}."]
    return [*_rates(reactive), "", _storm(reactive["storm"])]


def _rates(reactive: dict[str, Any]) -> list[str]:
    lines = ["| new flows per second | set up per second | of a core |", "|---:|---:|---:|"]
    for each in reactive["rates"]:
        lines.append(
            f"| {each['offered_per_s']:.0f} | {each['set_up_per_s']:.0f} "
            f"| {each['core_share']:.0%} |"
        )
    return lines


def _storm(storm: dict[str, Any]) -> str:
    before, after = storm["memory_mib"]
    partial = storm.get("partial_polls")
    lacking = "" if partial is None else f", {partial} of them not by all counters"
    return (
        f"A storm of {storm['offered_per_s']:.0f} per second: {storm['set_up_per_s']:.0f} set up "
        f"per second; the queue was never longer than {storm['longest_queue']} (bound: "
        f"{storm['queue_bound']}); {storm['polls']} of {storm['polls_due']:.0f} polls were "
        f"answered{lacking}, {storm['longest_gap_s']:.1f} s the longest time without one; quiet "
        f"{storm['quiet_after_s']:.1f} s after its end; memory {before:.0f} to {after:.0f} MiB."
    )


def readme(section: Section) -> str:
    """The README's rows, and a sentence on elasticity."""
    lines = [
        "The controller by the number of groups and nodes, beside ovn-northd with ovn-controller:",
        "",
        "| groups x nodes | one node's change, decision to barrier | OVN "
        "| pushed to an empty switch | OVN | of a core at one poll per second |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, size in section["ours"].items():
        theirs = section["ovn"][name]
        cells = (
            name.replace("x", " x "),
            _in_ms(size),
            _in_ms(theirs),
            _back(size),
            f"{theirs['cold_push_s']:.2f} s" if "cold_push_s" in theirs else "",
            f"{size['core_share']:.1%}" if "core_share" in size else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", elasticity.readme(section["elasticity"])]).strip()


def _in_ms(size: dict[str, Any]) -> str:
    return f"{size['change_ms']['median']:.1f} ms" if "change_ms" in size else ""


def _back(size: dict[str, Any]) -> str:
    """From the moment at which the killed switch runs again."""
    push = size.get("cold_push", size.get("first_start"))
    if push is None:
        return "not measured"
    return f"{push['since_back_s']:.2f} s" if "since_back_s" in push else _took(push)


def plot(section: Section, directory: Path) -> list[Path]:
    """A change's and a push's time over the number of groups and nodes, beside OVN's."""
    from bench.plots import pair

    path = directory / "controlplane.png"
    with pair(path) as (change, push):
        for title, sizes in (("ours", section["ours"]), ("OVN", section["ovn"])):
            style = {"ours": "o-", "OVN": "s--"}[title]
            changes = {name: each["median"] for name, each in _changes(sizes).items()}
            for axes, times in ((change, changes), (push, _pushes(sizes))):
                if times:
                    axes.plot(*_line(times), style, label=title)
        change.set(title="one node's change, ms")
        push.set(title="pushed to an empty switch, s")
        for axes in (change, push):
            if axes.lines:
                axes.set(xlabel="groups x nodes", xscale="log", yscale="log")
                axes.legend()
            axes.grid(alpha=0.3)
    return [path]


def _pushes(sizes: Section) -> dict[str, float]:
    """Seconds from the moment at which the killed switch runs again, where all came back."""
    ours = {name: each["cold_push"] for name, each in sizes.items() if "cold_push" in each}
    theirs = {name: each["cold_push_s"] for name, each in sizes.items() if "cold_push_s" in each}
    settled = {name: push["since_back_s"] for name, push in ours.items() if push["settled"]}
    return settled | theirs


def _line(times: dict[str, float]) -> tuple[list[int], list[float]]:
    """Over the product of both numbers that a size is called by."""
    points = sorted((_product(name), took) for name, took in times.items())
    return [x for x, _ in points], [y for _, y in points]


def _product(name: str) -> int:
    number, nodes = map(int, name.split("x"))
    return number * nodes
