"""Which machines run guests by KVM: the word of libvirt, and of the processor."""

from __future__ import annotations

import pytest

from sncontroller.hypervisors._virtualization import Virtualization, domain_type, virtualizes

INTEL = "processor\t: 0\nflags\t\t: fpu vme sse2 vmx ssse3\nvmx flags\t: vnmi ept\n"
AMD = "processor\t: 0\nflags\t\t: fpu vme sse2 svm abm\n"
GUEST = "processor\t: 0\nflags\t\t: fpu vme sse2 vmmcall hypervisor\nbugs\t\t: sysret\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd aes\n"


@pytest.mark.parametrize(
    ("cpuinfo", "does"),
    [(INTEL, True), (AMD, True), (GUEST, False), (ARM, True), (GUEST + AMD, True), ("", True)],
    ids=["Intel", "AMD", "a VM's", "ARM", "one of two", "nothing told"],
)
def test_processor_says_whether_it_runs_guests(cpuinfo: str, does: bool) -> None:
    """x86 must have the flag, as a word of its own; of others nothing is known."""
    assert virtualizes(cpuinfo) is does


@pytest.mark.parametrize(
    ("cpuinfo", "has_kvm", "chosen"),
    [(INTEL, True, "kvm"), (INTEL, False, "qemu"), (GUEST, True, "qemu"), (GUEST, False, "qemu")],
)
def test_auto_is_kvm_where_both_say_so(cpuinfo: str, has_kvm: bool, chosen: str) -> None:
    """A KVM without a processor behind it would never boot a machine; no KVM is emulation."""
    assert domain_type(Virtualization.AUTO, cpuinfo, lambda: has_kvm) == chosen


@pytest.mark.parametrize("wanted", [Virtualization.KVM, Virtualization.QEMU])
def test_what_is_asked_for_by_name_is_taken(wanted: Virtualization) -> None:
    """Whatever the machine says of itself."""
    for cpuinfo, has_kvm in ((INTEL, True), (GUEST, False)):
        assert domain_type(wanted, cpuinfo, lambda has=has_kvm: has) == wanted.value
