"""The demo itself, end to end, as the real process that ``make demo`` starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from sncontroller.lab.guest import guest_files
from sncontroller.lab.namespaces import namespaces, pids_with_environment
from sncontroller.lab.net import isolate

LIMIT_S = 170
LIBVIRT_LIMIT_S = 300
"""Emulated machines boot several times slower than namespaces are made."""
LIBVIRT = ("--hypervisor", "libvirt")
GUEST = Path(__file__).parents[2] / "build" / "guest"
QUICK = (sys.executable, "-m", "sncontroller.lab.demo", "--quick", "--guest", str(GUEST))


@contextmanager
def demo(output: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A quick run that writes to ``output``; killed at the end if it still runs."""
    pipe = subprocess.PIPE
    words = [*QUICK, "--output", str(output), *options]
    process = subprocess.Popen(words, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def descendants(demo_pid: int) -> tuple[int, ...]:
    """All processes that a run has started and that still run."""
    return pids_with_environment(f"SNCONTROLLER_DEMO={demo_pid}")


def await_line(process: subprocess.Popen[str], word: str) -> None:
    """Read what the run prints until ``word`` is in it."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if word in line:
            return
    raise AssertionError("".join(seen))


@pytest.mark.parametrize(
    ("options", "least", "limit_s"),
    [((), 500, LIMIT_S), (("--kill-controller",), 500, LIMIT_S), (LIBVIRT, 200, LIBVIRT_LIMIT_S)],
    ids=["plain", "killed", "libvirt"],
)
def test_one_vm_becomes_a_group_and_one_again(
    tmp_path: Path, options: tuple[str, ...], least: int, limit_s: float
) -> None:
    """No connection fails or moves, nodes come and go, nothing is left, with 0 as exit code."""
    if options == LIBVIRT:
        guest_files(GUEST, isolate())  # from here on there may be no way to the kernel's package
    before = namespaces()
    with demo(tmp_path, *options) as process:
        said, _ = process.communicate(timeout=limit_s)
    assert process.returncode == 0, said
    found: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    assert found["problems"] == []
    assert found["connections"]["failed"] == found["connections"]["moved"] == 0
    assert found["connections"]["made"] > least
    assert found["connections"]["held"] > 3
    assert (found["nodes"]["peak"], found["nodes"]["end"]) == (3, 1)
    assert set(found["nodes"]["requests"]) == {"web-1", "web-2", "web-3"}
    assert found["throughput"]["gain"] >= 2
    assert {drain["node"] for drain in found["drains"]} == {"web-2", "web-3"}
    assert any(drain["held"] and drain["waited_s"] > 1 for drain in found["drains"])
    assert found["leftovers"] == []
    assert found["foreign_flows_identical"] is True
    deeds = {event["what"] for event in found["events"]}
    assert {"attached", "started", "active", "draining", "stopped", "detached"} <= deeds
    why = "\n".join(event["why"] for event in found["events"] if event["what"] == "wanted")
    assert "nodes: load " in why
    assert " above 0.8 for " in why
    assert " below 0.35 for " in why
    assert ("controller_killed" in deeds) == ("--kill-controller" in options)
    assert found["hypervisor"] == ("libvirt" if options == LIBVIRT else "netns")
    assert (tmp_path / "demo.png").read_bytes()[:4] == b"\x89PNG"
    assert yaml.safe_load((tmp_path / "sncontroller.yaml").read_text())["controller"] == "demo"
    assert descendants(process.pid) == ()
    assert namespaces() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """With a secondary in service and traffic on its way, the end is clean and says so."""
    with demo(tmp_path) as process:
        await_line(process, "web-2 active")
        process.send_signal(number)
        said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, said
    assert "everything was cleaned up" in said
    assert said.endswith("demo: interrupted\n")
    assert descendants(process.pid) == ()


def test_a_killed_run_takes_its_processes_with_it(tmp_path: Path) -> None:
    """After SIGKILL nobody cleans up: all that the run has started ends by itself."""
    with demo(tmp_path) as process:
        await_line(process, "web-2 active")
        assert descendants(process.pid)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 20
        while descendants(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert descendants(process.pid) == ()


def test_an_unknown_hypervisor_is_refused_in_one_line(tmp_path: Path) -> None:
    """With the names of those that there are, and before anything is begun."""
    with demo(tmp_path / "out", "--hypervisor", "vmware") as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said == "demo: there is none on 'vmware'; HYPERVISOR is one of libvirt, netns\n"
    assert not (tmp_path / "out").exists()


def test_without_root_one_line_says_so(tmp_path: Path) -> None:
    """Exit code 2 and what to do, before anything is begun."""
    code = (
        "import os; from sncontroller.lab import demo; os.seteuid(65534);"
        f"demo.main(['--quick', '--output', {str(tmp_path / 'out')!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == "demo: the demo needs root: run it with sudo or as root\n"
    assert not (tmp_path / "out").exists()
