"""What holds for every test: in which order and where it runs, no judging by time, and signals.

Tests of the data plane and of labs move this process into a network namespace of its own, for good
(``sncontroller.lab.isolation``). Those that stay on the machine's own loopback come first, whatever
the order of the command line, so that no lab can take the network away under them: also where files
are shared out to several processes, each of which gets its files in this order.
"""

from __future__ import annotations

import atexit
import http.client
import http.server
import os
import shutil
import signal
import socket
import tempfile
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Final

import coverage
import pytest
from hypothesis import configuration, settings

# what these say of a failure is as full as what a test says
pytest.register_assert_rewrite("tests.lab.failover_lab", "tests.dataplane.world", "tests.switch")

HERE: Final = Path(__file__).parent
STAYING: Final = (HERE / "unit", HERE / "openflow")
"""Where tests are that never leave the machine's own network namespace."""
NETWORK: Final = os.readlink("/proc/self/ns/net")
LONGEST: Final = (
    *("unit/test_simulate.py", "unit/test_ryu_manager.py", "unit/test_cli.py"),
    *("lab/test_demo.py", "lab/test_failover.py", "lab/test_ipv6.py"),
    *("lab/test_libvirt_plugin.py", "lab/test_podman_plugin.py", "lab/test_hypervisor_faults.py"),
    *("lab/test_libvirt_faults.py", "dataplane/test_pinning.py", "lab/test_mininet.py"),
    *("lab/test_signals.py", "lab/test_pool_traffic.py", "lab/test_openstack_plugin.py"),
    *("lab/test_pool_plugin.py", "lab/test_udp_drain.py", "lab/test_netns_plugin.py"),
)
"""Files that take about a minute or more, longest first: one begun last would be waited for."""

configuration.set_hypothesis_home_dir(HERE.parent / "build" / "hypothesis")
settings.register_profile("sncontroller", deadline=None)
settings.load_profile("sncontroller")

# Eventlet leaves its own sockets in the modules that it is the first to import; tests of the
# controller's parts import it into this process, which has no green threads.
GREEN_UNLESS_FIRST: Final = (http.client, http.server, urllib.request)

# Each process that tests are shared out to has temporary files of its own: what a lab of another
# one left, killed on purpose, must not look as if ours had left it.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix=f"{worker}-")
    atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)

# a shell's background job ignores these, and so would every process that a test starts
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_sessionstart() -> None:
    """Say at once what would make tests fail in strange ways."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("127.0.0.1", 9))
        except OSError as error:
            reason = f"127.0.0.1 cannot be reached ({error.strerror}): try ip link set lo up"
            raise pytest.UsageError(reason) from None
    # pytest-cov starts measuring twice in each of several processes, and for a test that must not
    # count it would stop only the second
    if worker and (measuring := coverage.Coverage.current()):
        measuring.stop()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """First those that stay, of both the longest; the core's coverage is its own tests', no lab's.

    Nor what examples reach that are drawn at random: they differ from run to run.
    """
    yield
    items.sort(key=lambda item: (not _stays(item), _rank(item)))
    for item in items:
        drawn = item.get_closest_marker("hypothesis") is not None
        if drawn or HERE / "unit" not in item.path.parents:
            item.add_marker(pytest.mark.no_cover)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that is to stay, and that a test before it has moved, says so."""
    if _stays(item) and os.readlink("/proc/self/ns/net") != NETWORK:
        pytest.fail("an earlier test of tests/unit or tests/openflow left the network namespace")


def _stays(item: pytest.Item) -> bool:
    return any(directory in item.path.parents for directory in STAYING)


def _rank(item: pytest.Item) -> int:
    name = item.path.relative_to(HERE).as_posix() if HERE in item.path.parents else ""
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)
