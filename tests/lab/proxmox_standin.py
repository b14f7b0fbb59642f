"""A stand-in of a Proxmox VE cluster's API: what the ``proxmox`` plugin asks for.

It is no Proxmox VE. It imitates, from the sources of qemu-server, pve-common, pve-guest-common and
pve-http-server: API tokens; the ``data`` envelope, 400 with each parameter's error, and 500 with a
sentence in the status line and in the body; the cluster's list of VMs, whose states are old;
configurations and current states of VMs; tasks with a UPID that go on whatever becomes of the
client; a clone that exists first as a locked file without a description, then with one, then
unlocked, and that is refused when its number is taken; starts, stops, shutdowns and removals with
their locks. Where pve-bridge would plug a tap into an OVS bridge, it plugs a port of the same name,
without ``external_ids`` as there, into a real Open vSwitch.

Not imitated: permissions (a request is refused by a fault that a test asks for), storage, HA,
snapshots, containers, the quorum, and whatever else the plugin has no use for.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from tests.lab.standin import Answer, Api, RefusedError, Request, Switch, main

TOKEN = "sn@pve!controller=6f1c7a3e-0000-4000-8000-000000000001"
HOST = "pve1"
TEMPLATE = 900
CLONE = {"newid", "name", "description", "pool", "full"}
CONFIG = {"net0", "tags", "ipconfig0", "cores", "memory"}


def refused(said: str, status: int = 500, errors: Mapping[str, str] | None = None) -> RefusedError:
    """A refusal as Proxmox words it."""
    body: dict[str, Any] = {"data": None, "message": f"{said}\n"}
    if errors:
        body["errors"] = errors
    return RefusedError(Answer(status, body, said))


class ProxmoxApi(Api):
    """The cluster."""

    def __init__(
        self,
        switch: Switch,
        task_s: float = 0.06,
        volumes: int = 100,
        running: int = 100,
        bridges: tuple[str, ...] = ("vmbr1",),
        old: bool = False,
        end_s: float = 0.0,
    ) -> None:
        """Tasks take this long, and ``end_s`` more until they say so; room for disks and VMs.

        ``old`` has no message in the body.
        """
        super().__init__(switch)
        self._task_s, self._volumes, self._running = task_s, volumes, running
        self._bridges, self._old, self._end_s = bridges, old, end_s
        template = {"name": "web-22", "template": 1, "net0": _random_net0(), "scsi0": "x"}
        self._vms: dict[int, dict[str, Any]] = {TEMPLATE: {"config": template, "status": "stopped"}}
        self._tasks: dict[str, dict[str, Any]] = {}

    def objects(self) -> list[str]:
        """VMs by number and name; running ones once more."""
        vms = [(vmid, vm) for vmid, vm in self._vms.items() if vmid != TEMPLATE]
        made = [f"vm {vmid} {vm['config'].get('name', '')}" for vmid, vm in vms]
        return [*made, *(f"running {vmid}" for vmid, vm in vms if vm["status"] == "running")]

    def details(self, name: str) -> object:
        """A VM by its number."""
        return self._vms[int(name)]

    def do(self, what: str, **details: Any) -> None:
        """Damages, and what an operator does by hand."""
        vm = self._vms.get(details.get("vmid", 0), {})
        match what:
            case "stopped":
                vm["status"] = "stopped"
                self._unplug(details["vmid"])
            case "state":
                vm["qmp"] = details["state"]
            case "unplug":
                self._unplug(details["vmid"])
            case "lock":
                vm["config"]["lock"] = details["lock"]
            case "tasks end":
                self._end_s = 0.0
            case "unlock":
                vm["config"].pop("lock")
            case "foreign":
                config = {"name": "contract.web-9", "net0": _random_net0(), "description": "mine"}
                self._vms[details["vmid"]] = {"config": config, "status": "stopped"}
            case "remove":
                self._unplug(details["vmid"])
                del self._vms[details["vmid"]]

    # -- routes ----------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        """The answer to a request."""
        try:
            return Answer(200, {"data": self._data(request)})
        except RefusedError as error:
            if self._old:  # before version 8 the sentence is in the status line alone
                answer = error.answer
                raise RefusedError(Answer(answer.status, {"data": None}, answer.reason)) from error
            raise

    def _data(self, request: Request) -> object:
        if request.headers.get("Authorization") != f"PVEAPIToken={TOKEN}":
            raise refused("invalid token value!", 401)
        parts = request.path.removeprefix("/api2/json/").split("/")
        given: Mapping[str, str] = request.body or {}
        match request.method, parts:
            case "GET", ["cluster", "resources"]:
                return self._resources()
            case "GET", ["nodes", _, "tasks", upid, "status"]:
                if upid not in self._tasks:
                    raise refused(f"unable to read task status - no such task {upid!r}")
                return self._tasks[upid]
            case method, ["nodes", host, "qemu", number, *what]:
                if host != HOST:
                    raise refused(f"hostname lookup '{host}' failed - failed to get address", 500)
                vm = self._vm(int(number))
                return self._of_vm(method, int(number), vm, what, given)
        raise refused(f"Method '{request.method} {request.path}' not implemented", 501)

    def _of_vm(
        self, method: str, vmid: int, vm: dict[str, Any], what: list[str], given: Mapping[str, str]
    ) -> object:
        """What is asked of one VM."""
        match method, what:
            case "GET", ["config"]:
                return {**vm["config"], "digest": uuid.uuid4().hex}
            case "GET", ["status", "current"]:
                lock = {key: vm["config"][key] for key in ("lock",) if key in vm["config"]}
                state = vm.get("qmp", vm["status"])
                return {"vmid": vmid, "status": vm["status"], "qmpstatus": state, **lock}
            case "PUT", ["config"]:
                _only(given, CONFIG)
                _unlocked(vm)
                vm["config"].update(given)
                return None
            case "POST", ["clone"]:
                _only(given, CLONE)
                return self._clone(vm, given)
            case "POST", ["status", "start"]:
                return self._task("qmstart", vmid, (1, lambda: self._start(vmid)))
            case "POST", ["status", "stop"]:
                return self._task("qmstop", vmid, (1, lambda: self._stop(vmid)))
            case "POST", ["status", "shutdown"]:
                _only(given, {"timeout", "forceStop"})
                vm["shutdown"] = dict(given)
                return self._task("qmshutdown", vmid, (1, lambda: self._stop(vmid)))
            case "DELETE", []:
                if vm["status"] == "running":
                    raise refused(f"VM {vmid} is running - destroy failed")
                steps = (lambda: self._destroy(vmid), lambda: self._forget(vmid))
                return self._task("qmdestroy", vmid, *((0.5, step) for step in steps))
        raise refused(f"Method '{method} {'/'.join(what)}' not implemented", 501)

    def _resources(self) -> list[dict[str, Any]]:
        """As pvestatd reported them some seconds ago: a state is no news."""
        vms = [
            {
                "id": f"qemu/{vmid}",
                "type": "qemu",
                "vmid": vmid,
                "node": HOST,
                "status": "unknown",
                "template": vm["config"].get("template", 0),
            }
            for vmid, vm in self._vms.items()
        ]
        container = {"id": "lxc/200", "type": "lxc", "vmid": 200, "node": HOST, "status": "running"}
        return [*vms, container]

    def _vm(self, vmid: int) -> dict[str, Any]:
        if vmid not in self._vms:
            file = f"nodes/{HOST}/qemu-server/{vmid}.conf"
            raise refused(f"Configuration file '{file}' does not exist")
        return self._vms[vmid]

    # -- tasks -----------------------------------------------------------------------------------

    def _task(self, kind: str, vmid: int, *steps: tuple[float, Any]) -> str:
        """Begin a task: steps, each after its share of a task's time."""
        began = f"{int(time.time()):08X}"
        upid = f"UPID:{HOST}:{uuid.uuid4().hex[:8].upper()}:0012D687:{began}:{kind}:{vmid}:"
        upid += "sn@pve!controller:"
        task = {"upid": upid, "node": HOST, "type": kind, "id": str(vmid), "status": "running"}
        self._tasks[upid] = task

        def guarded(step: Any) -> Any:
            def run() -> bool:
                try:
                    step()
                except RefusedError as error:
                    task.update(status="stopped", exitstatus=error.answer.reason)
                    return False
                return True

            return run

        def end() -> None:
            task.update(status="stopped", exitstatus="OK")

        timed = [(self._task_s * share, guarded(step)) for share, step in steps]
        self.later(*timed, (self._end_s, end))
        return upid

    def _clone(self, template: Mapping[str, Any], given: Mapping[str, str]) -> str:
        vmid = int(given["newid"])
        made = {key: given[key] for key in ("name", "description") if key in given}

        def check() -> None:
            if vmid in self._vms:
                raise refused(f"unable to create VM {vmid}: config file already exists")

        def file() -> None:
            check()
            config = {"lock": "clone", "description": "qmclone temporary file"}
            self._vms[vmid] = {"config": config, "status": "stopped"}

        def disk() -> None:
            if len(self._vms) - 1 > self._volumes:
                del self._vms[vmid]
                raise refused(
                    "clone failed: error during cfs-locked 'storage-local-lvm' operation: Cannot "
                    "create new thin volume, free space in thin pool pve/data reached threshold."
                )
            copied = {key: to for key, to in template["config"].items() if key != "template"}
            config = {**copied, **made, "net0": _random_net0(), "lock": "clone"}
            self._vms[vmid]["config"] = config

        def unlock() -> None:
            del self._vms[vmid]["config"]["lock"]

        check()
        return self._task("qmclone", TEMPLATE, (0.3, file), (0.4, disk), (0.3, unlock))

    def _start(self, vmid: int) -> None:
        vm = self._vm(vmid)
        _unlocked(vm)
        if vm["status"] == "running":
            raise refused(f"VM {vmid} already running")
        if sum(other["status"] == "running" for other in self._vms.values()) >= self._running:
            raise refused(
                "start failed: command '/usr/bin/kvm -id ...' failed: "
                "cannot set up guest memory 'pc.ram': Cannot allocate memory"
            )
        net0 = dict(each.partition("=")[::2] for each in vm["config"]["net0"].split(","))
        if net0["bridge"] not in self._bridges:
            raise refused(f"start failed: bridge '{net0['bridge']}' does not exist")
        vm["firewall"] = net0.get("firewall") == "1"
        vm["status"] = "running"
        self.switch.plug(self._tap(vmid, vm))

    def _stop(self, vmid: int) -> None:
        vm = self._vm(vmid)
        _unlocked(vm)
        vm["status"] = "stopped"
        self._unplug(vmid)

    def _destroy(self, vmid: int) -> None:
        vm = self._vm(vmid)
        _unlocked(vm)
        vm["config"] = {**vm["config"], "lock": "destroyed"}

    def _forget(self, vmid: int) -> None:
        del self._vms[vmid]

    def _tap(self, vmid: int, vm: Mapping[str, Any]) -> str:
        """PVE::Network's names: the VM's tap, or the firewall bridge's port on the OVS bridge."""
        return f"fwln{vmid}o0" if vm.get("firewall") else f"tap{vmid}i0"

    def _unplug(self, vmid: int) -> None:
        self.switch.unplug(self._tap(vmid, self._vms[vmid]))


def _only(given: Mapping[str, str], known: set[str]) -> None:
    unknown = (
        "property is not defined in schema and the schema does not allow additional properties"
    )
    errors = {name: unknown for name in given if name not in known}
    if errors:
        raise refused("Parameter verification failed.", 400, errors)


def _unlocked(vm: Mapping[str, Any]) -> None:
    if "lock" in vm["config"]:
        raise refused(f"VM is locked ({vm['config']['lock']})")


def _random_net0() -> str:
    mac = ":".join(uuid.uuid4().hex[at : at + 2].upper() for at in (0, 2, 4))
    return f"virtio=BC:24:11:{mac},bridge=vmbr0,firewall=1"


if __name__ == "__main__":
    main(ProxmoxApi)
