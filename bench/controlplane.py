"""What the controller itself costs, by the number of groups, and beside OVN's daemons.

_groups       ours: cold push, one node's change, polls, restart, memory
_ovn_groups   the same for northd and ovn-controller
_setups       reactive flow set-ups per second, and a storm of packet-ins
_elasticity   load step to decision, decision to the first flow on the new node
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench import Report, Section, _elasticity, _groups, _ovn_groups, _setups
from bench.targets import target

PUSHED_WITHIN_S, CHANGED_WITHIN_MS, CORE_SHARE = 10.0, 20.0, 0.10
LARGEST = "1000x16"


def run(quick: bool, report: Report) -> Section:
    """Measure; see ``bench.Part``."""
    sizes = _groups.sizes(quick)
    found: Section = {
        "ours": {_groups.name_of(*size): _groups.measured(*size, quick, report) for size in sizes},
        "ovn": {
            _groups.name_of(*size): _ovn_groups.measured(*size, quick, report) for size in sizes
        },
        "reactive": _setups.measured(quick, report),
        "elasticity": _elasticity.measured(quick, report),
    }
    return {**found, "targets": _targets(found)}


def _targets(found: Section) -> list[dict[str, Any]]:
    sizes = found["ours"]
    running = [each["change_ms"] for each in sizes.values() if "change_ms" in each]
    storm = found["reactive"]["storm"]
    wanted = [
        target(
            "one node's change, median, at every size that settled",
            max((each["median"] for each in running), default=None),
            at_most=CHANGED_WITHIN_MS,
            unit="ms",
        ),
        target(
            "queue of new flows in a storm", storm["longest_queue"], at_most=storm["queue_bound"]
        ),
        target(
            "share of the due polls answered in a storm",
            storm["polls"] / storm["polls_due"],
            at_least=0.9,
        ),
    ]
    for name, each in sizes.items():
        if each["groups"] == 100 and "core_share" in each:
            title = f"share of a core at one poll per second, {name}"
            wanted.append(target(title, each["core_share"], at_most=CORE_SHARE))
    if LARGEST in sizes:
        wanted.append(_pushed(sizes[LARGEST]))
    return wanted


def _pushed(size: dict[str, Any]) -> dict[str, Any]:
    """A push that was given up has taken at least as long as was waited."""
    push = size.get("cold_push", size["first_start"])
    took_s = push["took_s"] if push["settled"] else _groups.WITHIN_S
    given_up = "" if push["settled"] else " (given up)"
    return target(f"{LARGEST} pushed{given_up}", took_s, at_most=PUSHED_WITHIN_S, unit="s")


def table(section: Section) -> str:
    """The section as Markdown."""
    reactive = section["reactive"]
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
            *_rates(reactive),
            "",
            _storm(reactive["storm"]),
            "",
            "### Elasticity",
            "",
            _elasticity.table(section["elasticity"]),
        ]
    )


def _sizes(sizes: dict[str, Any]) -> list[str]:
    lines = [
        "| groups x nodes | entries | configuration read | first start | cold push | restart "
        "| one change: median, p90 | poll | core at 1 poll/s | memory | longest silence |",
        "|---|" + "---:|" * 10,
    ]
    for size in sizes.values():
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


def _took(phase: dict[str, Any] | None) -> str:
    if phase is None:
        return ""
    if phase["settled"]:
        return f"{phase['took_s']:.2f} s"
    return f"**not in {_groups.WITHIN_S:.0f} s** ({phase['tables_confirmed']} tables)"


def _ovn_sizes(sizes: dict[str, Any]) -> list[str]:
    lines = [
        "| load balancers x backends | entries | all written | switch came back | restart "
        "| one change: median, most | memory: databases, northd, controller |",
        "|---|" + "---:|" * 6,
    ]
    for size in sizes.values():
        change, memory = size["change_ms"], size["memory_mib"].values()
        cells = [
            f"{size['groups']} x {size['nodes']}",
            f"{size['entries']}",
            *(f"{size[name]:.2f} s" for name in ("first_start_s", "cold_push_s", "restart_s")),
            f"{change['median']:.1f} ms, {change['most']:.0f} ms",
            ", ".join(f"{each:.0f}" for each in memory) + " MiB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


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
    return (
        f"A storm of {storm['offered_per_s']:.0f} per second: {storm['set_up_per_s']:.0f} set up "
        f"per second; the queue was never longer than {storm['longest_queue']} (bound: "
        f"{storm['queue_bound']}); {storm['polls']} of {storm['polls_due']:.0f} polls were "
        f"answered, {storm['longest_gap_s']:.1f} s the longest time without one; memory "
        f"{before:.0f} to {after:.0f} MiB."
    )


def readme(section: Section) -> str:
    """The README's rows."""
    lines = [
        "| groups x nodes | one node's change, decision to barrier | OVN "
        "| pushed to an empty switch | OVN |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, size in section["ours"].items():
        ovn, change = section["ovn"][name], size.get("change_ms")
        ours = "" if change is None else f"{change['median']:.1f} ms"
        push = size.get("cold_push", size["first_start"])
        pushed = f"{push['since_back_s']:.2f} s" if push.get("settled") else _took(push)
        lines.append(
            f"| {size['groups']} x {size['nodes']} | {ours} | {ovn['change_ms']['median']:.1f} ms "
            f"| {pushed} | {ovn['cold_push_s']:.2f} s |"
        )
    return "\n".join(lines)


def plot(section: Section, directory: Path) -> list[Path]:
    """A change's time over the number of entries, beside OVN's."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (change, push) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    ours = [size for size in section["ours"].values() if "change_ms" in size]
    for axes, title in ((change, "one node's change, ms"), (push, "pushed to an empty switch, s")):
        axes.set(title=title, xlabel="groups x nodes", xscale="log", yscale="log")
        axes.grid(alpha=0.3)
    x = [size["groups"] * size["nodes"] for size in ours]
    change.plot(x, [size["change_ms"]["median"] for size in ours], "o-", label="ours")
    pushed = [size for size in ours if size["cold_push"]["settled"]]
    x = [size["groups"] * size["nodes"] for size in pushed]
    push.plot(x, [size["cold_push"]["since_back_s"] for size in pushed], "o-", label="ours")
    ovn = list(section["ovn"].values())
    x = [size["groups"] * size["nodes"] for size in ovn]
    change.plot(x, [size["change_ms"]["median"] for size in ovn], "s--", label="OVN")
    push.plot(x, [size["cold_push_s"] for size in ovn], "s--", label="OVN")
    for axes in (change, push):
        axes.legend(fontsize=8)
    path = directory / "controlplane.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return [path]
