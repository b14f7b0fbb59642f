"""A stand-in of an OpenStack cloud's API: what the ``openstack`` plugin and openstacksdk ask for.

It is no OpenStack. It imitates, from the API references of Keystone v3, Nova 2.1 (to microversion
2.79), Neutron v2.0 and Glance v2: password tokens, the catalogue and version discovery; finding
flavors, images, networks, security groups and server groups by id and by name; servers that go from
BUILD to ACTIVE or ERROR and that take their time to be deleted; ports with unique hardware and IP
addresses per network, that a server is bound to while it is built, and that stay when it goes; the
error bodies of each, with quotas (Nova 403, Neutron 409) and a scheduler that finds no valid host.
Where Nova's compute service and os-vif would plug a tap, it plugs a port of the same name and
``external_ids`` into a real Open vSwitch.

Not imitated: policies beyond one project, pagination, volumes, cells, live migration, and whatever
else the plugin has no use for.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from tests.lab.openstack_project import (
    NAMED,
    NETWORK,
    PASSWORD,
    SUBNET,
    SUBNET_CIDR,
    now,
    token_body,
)
from tests.lab.standin import Answer, Api, RefusedError, Request, Switch, main

NOVA_TITLES = {400: "badRequest", 403: "forbidden", 404: "itemNotFound", 409: "conflictingRequest"}


def nova(status: int, message: str) -> RefusedError:
    """A refusal as Nova words it."""
    body = {NOVA_TITLES[status]: {"code": status, "message": message}}
    return RefusedError(Answer(status, body))


def neutron(status: int, kind: str, message: str) -> RefusedError:
    """A refusal as Neutron words it."""
    body = {"NeutronError": {"type": kind, "message": message, "detail": ""}}
    return RefusedError(Answer(status, body))


class OpenStackApi(Api):
    """The cloud."""

    def __init__(
        self,
        switch: Switch,
        build_s: float = 0.06,
        delete_s: float = 0.03,
        instances: int = 100,
        ports: int = 100,
        hosts: int = 100,
        prefix: str = "tap",
    ) -> None:
        """Build and delete servers in this time; quotas, and room for VMs on the hosts."""
        super().__init__(switch)
        self._build_s, self._delete_s = build_s, delete_s
        self._instances, self._port_quota, self._hosts = instances, ports, hosts
        self._prefix = prefix
        self._tokens: set[str] = set()
        self._servers: dict[str, dict[str, Any]] = {}
        self._ports: dict[str, dict[str, Any]] = {}

    def objects(self) -> list[str]:
        """Servers and ports, by name and id."""
        servers = (f"server {each['name']} {each['id']}" for each in self._servers.values())
        ports = (f"port {each['name']} {each['id']}" for each in self._ports.values())
        return [*servers, *ports]

    def details(self, name: str) -> object:
        """One of them, by what kind of thing it is and its name."""
        kind, _, called = name.partition(" ")
        things = self._servers if kind == "server" else self._ports
        return self._named(things, called)

    def do(self, what: str, **details: Any) -> None:
        """Damages, and what an operator does by hand."""
        match what:
            case "status":  # openstack server set --state; a VM that was switched off or crashed
                server = self._named(self._servers, details["server"])
                server["status"] = details["status"]
                server["fault"] = {"code": 500, "message": "it was damaged", "created": now()}
                self._unplug(server)
            case "delete server":
                self._forget(self._named(self._servers, details["server"])["id"])
            case "delete port":
                self._delete_port(self._named(self._ports, details["port"])["id"])
            case "unplug":
                self.switch.unplug(self._tap(self._named(self._ports, details["port"])["id"]))
            case "foreign":
                port = self._create_port({"network_id": NETWORK, "name": "contract.web-9"})
                self._create_server(
                    {
                        "name": "contract.web-9",
                        "flavorRef": "2",
                        "imageRef": NAMED["images"][0]["id"],
                        "networks": [{"port": port["id"]}],
                        "metadata": {"purpose": "an operator's own"},
                    }
                )
            case "port":
                self._create_port({"network_id": NETWORK, **details["port"]})
            case (
                "surplus"
            ):  # a request of a killed controller that arrived before the port was taken
                server = self._named(self._servers, details["server"])
                twin = {**server, "id": str(uuid.uuid4()), "created": now()}
                self._servers[twin["id"]] = twin
                _fail(twin, "Port is still in use.")
            case "clear":
                for port in list(self._ports):
                    self._delete_port(port)
                self._servers.clear()
            case "tokens expire":
                self._tokens.clear()

    # -- routes ----------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        """The answer of the service that the path begins with."""
        _, service, *parts = request.path.rstrip("/").split("/")
        if service == "identity":
            return self._identity(request)
        versions = {
            "compute": ("v2.1", {"version": "2.79", "min_version": "2.1"}),
            "networking": ("v2.0", {}),
            "image": ("v2.9", {}),
        }
        if service in versions and len(parts) < 2:
            name, more = versions[service]
            about = self._version(
                f"/{service}/{name.partition('.')[0] if service == 'image' else name}", name, more
            )
            return Answer(
                200, {"version": about} if parts and service == "compute" else {"versions": [about]}
            )
        if request.headers.get("X-Auth-Token") not in self._tokens:
            raise RefusedError(_unauthorized())
        match service, request.method, parts[1:]:
            case "compute", "GET", ["servers", "detail"]:
                found = self._servers.values()
                pattern = request.query.get("name", "")
                chosen = [each for each in found if re.search(pattern, each["name"])]
                return Answer(200, {"servers": chosen})
            case "compute", "POST", ["servers"]:
                return Answer(
                    202, {"server": self._create_server(request.body["server"], request.body)}
                )
            case "compute", "GET", ["servers", server]:
                return Answer(200, {"server": self._server(server)})
            case "compute", "DELETE", ["servers", server]:
                self._delete_server(self._server(server))
                return Answer(204)
            case "networking", "GET", ["ports"]:
                query = request.query.items()
                chosen = [
                    port
                    for port in self._ports.values()
                    if all(str(port.get(key)) == value for key, value in query)
                ]
                return Answer(200, {"ports": chosen})
            case "networking", "POST", ["ports"]:
                return Answer(201, {"port": self._create_port(request.body["port"])})
            case "networking", "DELETE", ["ports", port]:
                self._delete_port(port)
                return Answer(204)
            case _, "GET", [kind, *which] if kind in NAMED:
                return self._find(service, kind, which, request.query)
        raise nova(404, "The resource could not be found.")

    def _find(self, service: str, kind: str, which: list[str], query: Mapping[str, str]) -> Answer:
        """One of the named things by its id, or those of a name."""
        key = kind.replace("-", "_").removeprefix("os_")
        if which and which != ["detail"]:
            for each in NAMED[kind]:
                if each["id"] == which[0]:
                    return Answer(200, each if service == "image" else {key[:-1]: each})
            if service == "image":
                raise RefusedError(Answer(404, "404 Not Found: No image found with ID"))
            if service == "networking":
                raise neutron(404, "NotFound", f"{key[:-1]} {which[0]} could not be found.")
            raise nova(404, f"{key[:-1]} {which[0]} could not be found.")
        name = query.get("name")
        return Answer(200, {key: [each for each in NAMED[kind] if name in (None, each["name"])]})

    def _version(self, path: str, name: str, more: Mapping[str, str]) -> dict[str, Any]:
        links = [{"rel": "self", "href": f"{self.url}{path}/"}]
        return {"id": name, "status": "CURRENT", "links": links, **more}

    def _identity(self, request: Request) -> Answer:
        if not request.path.endswith("/auth/tokens"):
            about = self._version("/identity/v3", "v3.14", {})
            about["status"] = "stable"
            return Answer(200, {"version": about})
        user = request.body["auth"]["identity"]["password"]["user"]
        if user["password"] != PASSWORD:
            raise RefusedError(_unauthorized())
        token = uuid.uuid4().hex
        self._tokens.add(token)
        return Answer(
            201,
            {"token": token_body(self.url, user["name"])},
            headers=(("X-Subject-Token", token),),
        )

    # -- servers ---------------------------------------------------------------------------------

    def _create_server(
        self, body: dict[str, Any], whole: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        port = self._requested(body)
        if len(self._servers) >= self._instances:
            used = len(self._servers)
            raise nova(
                403,
                "Quota exceeded for instances: Requested 1, "
                f"but already used {used} of {self._instances} instances",
            )
        server = {
            "id": str(uuid.uuid4()),
            "name": body["name"],
            "status": "BUILD",
            "created": now(),
            "metadata": body.get("metadata", {}),
            "OS-EXT-STS:task_state": "scheduling",
            "OS-EXT-STS:vm_state": "building",
            "OS-EXT-STS:power_state": 0,
            "asked": {**body, **{key: to for key, to in (whole or {}).items() if key != "server"}},
        }
        self._servers[server["id"]] = server
        half_s = self._build_s / 2
        self.later(
            (half_s, lambda: self._schedule(server, port["id"])),
            (half_s, lambda: self._spawn(server, port["id"])),
        )
        return {"id": server["id"], "links": [], "OS-DCF:diskConfig": "MANUAL", "adminPass": "x"}

    def _requested(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The port of a request for a server, if it and all else is there."""
        if body["flavorRef"] not in [flavor["id"] for flavor in NAMED["flavors"]]:
            raise nova(400, f"Flavor {body['flavorRef']} could not be found.")
        if body["imageRef"] not in [image["id"] for image in NAMED["images"]]:
            raise nova(400, "Can not find requested image")
        if body.get("key_name") not in (None, "operator"):
            raise nova(400, "Invalid key_name provided.")
        wanted = body["networks"][0]["port"]
        port = self._ports.get(wanted)
        if port is None:
            raise nova(400, f"Port {wanted} could not be found.")
        if port["device_id"]:
            raise nova(409, f"Port {wanted} is still in use.")
        return port

    def _schedule(self, server: dict[str, Any], port_id: str) -> bool:
        """Find a host and bind the port to it."""
        if server["id"] not in self._servers:
            return False
        port = self._ports.get(port_id)
        placed = [each for each in self._servers.values() if each["status"] == "ACTIVE"]
        if len(placed) >= self._hosts:
            return _fail(server, "No valid host was found. There are not enough hosts available.")
        if port is None:
            return _fail(server, f"Port {port_id} could not be found.")
        if port["device_id"]:
            return _fail(server, f"Port {port_id} is still in use.")
        port.update({"device_id": server["id"], "device_owner": "compute:nova"})
        server["OS-EXT-STS:task_state"] = "spawning"
        return True

    def _spawn(self, server: dict[str, Any], port_id: str) -> bool:
        """Plug the VM in and let it run."""
        if server["id"] not in self._servers or port_id not in self._ports:
            return False
        port = self._ports[port_id]
        self.switch.plug(
            self._tap(port_id),
            iface_id=port_id,
            iface_status="active",
            attached_mac=port["mac_address"],
            vm_uuid=server["id"],
        )
        port["status"] = "ACTIVE"
        server.update({"status": "ACTIVE", "OS-EXT-STS:task_state": None})
        return True

    def _server(self, server: str) -> dict[str, Any]:
        if server not in self._servers:
            raise nova(404, f"Instance {server} could not be found.")
        return self._servers[server]

    def _delete_server(self, server: dict[str, Any]) -> None:
        server["OS-EXT-STS:task_state"] = "deleting"
        self.later((self._delete_s, lambda: self._forget(server["id"])))

    def _forget(self, server: str) -> None:
        """The server is gone; a port that the user made stays."""
        gone = self._servers.pop(server, None)
        if gone is not None:
            self._unplug(gone)
            for port in self._ports.values():
                if port["device_id"] == server:
                    port.update({"device_id": "", "device_owner": "", "status": "DOWN"})

    # -- ports -----------------------------------------------------------------------------------

    def _create_port(self, body: dict[str, Any]) -> dict[str, Any]:
        mac = str(body.get("mac_address") or f"fa:16:3e:{uuid.uuid4().hex[:6]}").lower()
        others = [port for port in self._ports.values() if port["network_id"] == body["network_id"]]
        if any(port["mac_address"] == mac for port in others):
            raise neutron(
                409,
                "MacAddressInUse",
                f"Unable to complete operation for network {body['network_id']}. "
                f"The mac address {mac} is in use.",
            )
        address = self._address(body, {port["fixed_ips"][0]["ip_address"] for port in others})
        if len(self._ports) >= self._port_quota:
            raise neutron(409, "OverQuota", "Quota exceeded for resources: ['port'].")
        port = {
            "description": "",
            "allowed_address_pairs": [],
            "port_security_enabled": True,
            "security_groups": [],
            **body,
            "id": str(uuid.uuid4()),
            "mac_address": mac,
            "fixed_ips": [{"subnet_id": SUBNET, "ip_address": address}],
            "device_id": "",
            "device_owner": "",
            "status": "DOWN",
            "admin_state_up": True,
        }
        self._ports[port["id"]] = port
        return port

    def _address(self, body: Mapping[str, Any], used: set[str]) -> str:
        """The address that is asked for, or a free one."""
        if not body.get("fixed_ips"):
            return next(str(host) for host in SUBNET_CIDR.hosts() if str(host) not in used)
        address = str(body["fixed_ips"][0]["ip_address"])
        if ip_address(address) not in SUBNET_CIDR:
            raise neutron(
                400,
                "InvalidIpForNetwork",
                f"IP address {address} is not a valid IP for any of the subnets on the specified "
                "network.",
            )
        if address in used:
            raise neutron(
                409,
                "IpAddressAlreadyAllocated",
                f"IP address {address} already allocated in subnet {SUBNET}",
            )
        return address

    def _delete_port(self, port: str) -> None:
        if self._ports.pop(port, None) is None:
            raise neutron(404, "PortNotFound", f"Port {port} could not be found.")
        self.switch.unplug(self._tap(port))

    def _tap(self, port: str) -> str:
        """Nova's name for the interface of a port: NIC_NAME_LEN is 14."""
        return f"{self._prefix}{port}"[:14]

    def _unplug(self, server: Mapping[str, Any]) -> None:
        for port in self._ports.values():
            if port["device_id"] == server["id"]:
                self.switch.unplug(self._tap(port["id"]))

    def _named(self, things: Mapping[str, dict[str, Any]], name: str) -> dict[str, Any]:
        return next(each for each in things.values() if each["name"] == name)


def _fail(server: dict[str, Any], why: str) -> bool:
    fault = {"code": 500, "message": why, "created": now()}
    server.update({"status": "ERROR", "fault": fault, "OS-EXT-STS:task_state": None})
    return False


def _unauthorized() -> Answer:
    message = "The request you have made requires authentication."
    return Answer(401, {"error": {"code": 401, "message": message, "title": "Unauthorized"}})


if __name__ == "__main__":
    main(OpenStackApi)
