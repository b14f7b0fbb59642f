"""What every hypervisor plugin must keep to, as tests to inherit.

Owns the promises of ``base.Hypervisor`` in executable form, against the real hypervisor. A plugin's
own test module subclasses :class:`HypervisorContract` and gives it a :class:`Subject`::

    class TestMine(HypervisorContract):
        @pytest.fixture
        def subject(self) -> Iterator[Subject]: ...

It needs pytest, and a hypervisor on which nothing of ``OWNER`` exists when a test begins.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Final, NoReturn

import pytest

from sncontroller.hypervisors.base import (
    Hypervisor,
    HypervisorError,
    NodeInfo,
    NodeRequest,
    NodeStatus,
    Owner,
    shape_problems,
)

OWNER: Final = Owner(controller="contract", group="web")
SAME_CONTROLLER: Final = Owner(controller="contract", group="dns")
SAME_GROUP: Final = Owner(controller="another", group="web")
ZONES: Final = {OWNER: 0xFFA1, SAME_CONTROLLER: 0xFFA2, SAME_GROUP: 0xFFA3}
CRASH_MOMENTS: Final = 10
WAIT_S: Final = 60.0


class Subject(ABC):
    """The plugin under test and its hypervisor, as the suite needs them."""

    @abstractmethod
    def plugin(self, owner: Owner) -> Hypervisor:
        """A new instance, as after a restart of the controller; all see the same hypervisor."""

    @abstractmethod
    def cramped(self, owner: Owner) -> Hypervisor:
        """An instance with room for the node of index 2 and for no second one."""

    @abstractmethod
    def objects(self) -> Collection[str]:
        """Names of all that exists on the hypervisor: nodes, ports, disks, directories, processes.

        Whatever a node consists of must appear, in whatever state.
        """

    @abstractmethod
    def create_foreign(self) -> str:
        """Make something that no plugin made; its name as :meth:`objects` has it."""

    @abstractmethod
    def damages(self) -> Mapping[str, Callable[[NodeInfo], None]]:
        """Ways in which a running node can break behind the plugin's back, by title."""


def node_request(index: int, owner: Owner = OWNER) -> NodeRequest:
    """The request that the controller would make for the node of this index."""
    zone = ZONES[owner]
    return NodeRequest(
        name=f"{owner.group}-{index}",
        index=index,
        port=f"sn{zone:04x}-{index}",
        mac=f"02:53:{zone >> 8:02x}:{zone & 255:02x}:{index >> 8:02x}:{index & 255:02x}",
        addresses=("10.99.0.10",),
    )


class HypervisorContract:
    """Inherit, and give the fixture ``subject``: a :class:`Subject`."""

    crash_moments: ClassVar[int] = CRASH_MOMENTS
    as_requested: ClassVar[bool] = True
    """Whether nodes get the requested port and hardware address, not ones that they have."""
    settle_s: ClassVar[float] = 0.2
    """After a crash: for what the killed process had asked others to do."""

    # -- shape -----------------------------------------------------------------------------------

    def test_has_the_shape_of_a_plugin(self, subject: Subject) -> None:
        """The class passes the check that loading it makes."""
        assert shape_problems(type(subject.plugin(OWNER))) == ()

    # -- one node --------------------------------------------------------------------------------

    def test_nothing_exists_at_first(self, subject: Subject) -> None:
        """An owner without nodes has an empty list."""
        assert subject.plugin(OWNER).list_nodes() == ()

    def test_started_node_is_listed_as_requested(self, subject: Subject) -> None:
        """What start returns and what list finds carry the request's values, and it runs."""
        plugin, request = subject.plugin(OWNER), node_request(2)
        started = plugin.start_node(request)
        for info in (started, until_running(plugin, request.name)):
            assert (info.name, info.index) == (request.name, request.index)
            if self.as_requested:
                assert (info.port, info.mac) == (request.port, request.mac)
            assert (info.port, info.mac) == (started.port, started.mac)
        assert started.status is not NodeStatus.BROKEN
        plugin.stop_node(request.name)

    def test_restarted_controller_finds_its_nodes(self, subject: Subject) -> None:
        """A new instance lists what an earlier one started, and stops it."""
        request = node_request(2)
        subject.plugin(OWNER).start_node(request)
        after = subject.plugin(OWNER)
        assert [info.name for info in after.list_nodes()] == [request.name]
        after.stop_node(request.name)
        assert after.list_nodes() == ()

    def test_same_request_twice_is_one_node(self, subject: Subject) -> None:
        """Starting what runs changes nothing, also from a new instance."""
        plugin, request = subject.plugin(OWNER), node_request(2)
        plugin.start_node(request)
        until_running(plugin, request.name)
        before = set(subject.objects())
        subject.plugin(OWNER).start_node(request)
        assert set(subject.objects()) == before
        assert len(plugin.list_nodes()) == 1
        plugin.stop_node(request.name)

    def test_stopped_node_leaves_nothing(self, subject: Subject) -> None:
        """After stop all that exists is what existed before start."""
        plugin, request = subject.plugin(OWNER), node_request(2)
        before = set(subject.objects())
        plugin.start_node(request)
        assert set(subject.objects()) > before
        plugin.stop_node(request.name)
        assert set(subject.objects()) == before

    def test_stopping_the_absent_is_fine(self, subject: Subject) -> None:
        """Stop of a node that never was, and of one that is gone already, is no error."""
        plugin, request = subject.plugin(OWNER), node_request(2)
        plugin.stop_node(request.name)
        plugin.start_node(request)
        plugin.stop_node(request.name)
        plugin.stop_node(request.name)
        assert plugin.list_nodes() == ()

    # -- several ---------------------------------------------------------------------------------

    def test_nodes_are_apart(self, subject: Subject) -> None:
        """Nodes started at the same time are all listed; stopping one keeps the others."""
        plugin, requests = subject.plugin(OWNER), [node_request(index) for index in (2, 3, 4)]
        before = set(subject.objects())
        with ThreadPoolExecutor(len(requests)) as threads:
            list(threads.map(plugin.start_node, requests))
        assert {info.name for info in plugin.list_nodes()} == {each.name for each in requests}
        plugin.stop_node(requests[1].name)
        assert {info.index for info in plugin.list_nodes()} == {2, 4}
        for request in (requests[0], requests[2]):
            until_running(plugin, request.name)
            plugin.stop_node(request.name)
        assert set(subject.objects()) == before

    def test_other_owners_nodes_are_untouched(self, subject: Subject) -> None:
        """Another group's and another controller's nodes are neither listed nor stopped."""
        others = {owner: subject.plugin(owner) for owner in (SAME_CONTROLLER, SAME_GROUP)}
        for owner, other in others.items():
            other.start_node(node_request(2, owner))
        plugin, before = subject.plugin(OWNER), set(subject.objects())
        assert plugin.list_nodes() == ()
        plugin.start_node(node_request(2))
        for owner in (OWNER, *others):
            plugin.stop_node(node_request(2, owner).name)
        assert set(subject.objects()) == before
        for owner, other in others.items():
            until_running(other, node_request(2, owner).name)
            other.stop_node(node_request(2, owner).name)

    def test_foreign_objects_are_untouched(self, subject: Subject) -> None:
        """What no plugin made is there after start and stop as it was before."""
        foreign, plugin = subject.create_foreign(), subject.plugin(OWNER)
        assert plugin.list_nodes() == ()
        plugin.start_node(node_request(2))
        plugin.stop_node(node_request(2).name)
        plugin.stop_node(foreign)
        assert foreign in subject.objects()

    # -- trouble ---------------------------------------------------------------------------------

    def test_no_room_is_an_error_and_leaves_nothing(self, subject: Subject) -> None:
        """A node too many is refused by one of the two errors; the others live on."""
        plugin = subject.cramped(OWNER)
        plugin.start_node(node_request(2))
        until_running(plugin, node_request(2).name)
        before = set(subject.objects())
        with pytest.raises(HypervisorError, match=r"\w"):
            plugin.start_node(node_request(3))
        assert set(subject.objects()) == before
        assert [info.index for info in plugin.list_nodes()] == [2]
        plugin.stop_node(node_request(2).name)

    def test_damaged_node_is_broken_and_can_be_stopped(self, subject: Subject) -> None:
        """However a node broke, it is listed as BROKEN with a reason, and stop removes the rest."""
        plugin, request, before = subject.plugin(OWNER), node_request(2), set(subject.objects())
        for title, damage in subject.damages().items():
            plugin.start_node(request)
            damage(until_running(plugin, request.name))
            (info,) = subject.plugin(OWNER).list_nodes()
            assert (title, info.name, info.status) == (title, request.name, NodeStatus.BROKEN)
            assert info.detail, f"{title}: no reason given"
            plugin.stop_node(request.name)
            assert set(subject.objects()) == before, title

    def test_damaged_node_is_made_again(self, subject: Subject) -> None:
        """Start of a BROKEN node clears the rest away and makes one that runs."""
        plugin, request, before = subject.plugin(OWNER), node_request(2), set(subject.objects())
        for damage in subject.damages().values():
            plugin.start_node(request)
            damage(until_running(plugin, request.name))
            plugin.start_node(request)
            until_running(plugin, request.name)
        plugin.stop_node(request.name)
        assert set(subject.objects()) == before

    def test_killed_while_starting_then_started_again(self, subject: Subject) -> None:
        """Killed with -9 at any moment of a start, the same start afterwards gives one node."""
        before = set(subject.objects())
        for _ in self._killed(subject, lambda plugin: plugin.start_node(node_request(2))):
            plugin = subject.plugin(OWNER)
            assert len(plugin.list_nodes()) <= 1
            plugin.start_node(node_request(2))
            until_running(plugin, node_request(2).name)
            assert len(plugin.list_nodes()) == 1
            plugin.stop_node(node_request(2).name)
            assert set(subject.objects()) == before

    def test_killed_while_starting_then_stopped(self, subject: Subject) -> None:
        """Killed with -9 at any moment of a start, what exists is listed, and stop clears it."""
        before = set(subject.objects())
        for moment in self._killed(subject, lambda plugin: plugin.start_node(node_request(2))):
            plugin = subject.plugin(OWNER)
            if set(subject.objects()) != before:
                assert [info.name for info in plugin.list_nodes()] == [node_request(2).name], moment
            plugin.stop_node(node_request(2).name)
            assert plugin.list_nodes() == ()
            assert set(subject.objects()) == before, moment

    def test_killed_while_stopping(self, subject: Subject) -> None:
        """Killed with -9 at any moment of a stop, the rest is listed, and stop clears it."""
        before = set(subject.objects())
        name = node_request(2).name
        subject.plugin(OWNER).start_node(node_request(2))
        for moment in self._killed(subject, lambda plugin: plugin.stop_node(name)):
            plugin = subject.plugin(OWNER)
            if set(subject.objects()) != before:
                assert [info.name for info in plugin.list_nodes()] == [node_request(2).name], moment
            plugin.stop_node(node_request(2).name)
            assert set(subject.objects()) == before, moment
            plugin.start_node(node_request(2))
        subject.plugin(OWNER).stop_node(node_request(2).name)

    def _killed(
        self, subject: Subject, call: Callable[[Hypervisor], object]
    ) -> Iterator[float | None]:
        """Make the call in processes that are killed at moments spread over its duration.

        Yields each time, when the caller must restore the state from before the call: first None,
        for the one that was left to finish, then the moments in seconds.
        """
        whole_s = _call_in_child(subject, call, None)
        yield None
        for step in range(self.crash_moments):
            moment_s = whole_s * step / self.crash_moments
            _call_in_child(subject, call, moment_s)
            time.sleep(self.settle_s)
            yield moment_s


def _call_in_child(
    subject: Subject, call: Callable[[Hypervisor], object], kill_after_s: float | None
) -> float:
    """Make the call in a process of its own, killed after that time; how long it lived."""
    ready_end, child_end = os.pipe()
    child = os.fork()
    if child == 0:
        _call_and_exit(subject, call, child_end)
    os.close(child_end)
    os.read(ready_end, 1)
    os.close(ready_end)
    began = time.monotonic()
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    took_s = time.monotonic() - began
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), "the call failed"
    return took_s


def _call_and_exit(subject: Subject, call: Callable[[Hypervisor], object], ready: int) -> NoReturn:
    status = 1
    try:
        plugin = subject.plugin(OWNER)
        os.write(ready, b"!")
        call(plugin)
        status = 0
    except BaseException:  # a forked child must never return into the test run
        traceback.print_exc()
    finally:
        os._exit(status)


def until_running(plugin: Hypervisor, name: str) -> NodeInfo:
    """The node as listed, once it is RUNNING; fails when it is BROKEN, missing or too slow."""
    deadline = time.monotonic() + WAIT_S
    while True:
        (info,) = (info for info in plugin.list_nodes() if info.name == name)
        if info.status is NodeStatus.RUNNING:
            return info
        assert info.status is not NodeStatus.BROKEN, info.detail
        assert time.monotonic() < deadline, f"{name} is still {info.status.value}"
        time.sleep(0.05)
