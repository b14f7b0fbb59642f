"""The project in the stand-in of an OpenStack cloud: what has a name, and where services are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

PASSWORD = "correct horse"
PROJECT = "5f0e1f5c3f6a4b9f8f3f0a0b6a7d1e01"
NETWORK = "8c0b5a0e-7a52-4d6c-9f43-0f9a2f5f0001"
SUBNET = "8c0b5a0e-7a52-4d6c-9f43-0f9a2f5f0002"
NAMED: dict[str, list[dict[str, Any]]] = {
    "flavors": [{"id": "2", "name": "m1.small", "ram": 2048, "vcpus": 1, "disk": 20, "links": []}],
    "images": [
        {"id": "8c0b5a0e-7a52-4d6c-9f43-0f9a2f5f0003", "name": "web-22", "status": "active"},
        {"id": "8c0b5a0e-7a52-4d6c-9f43-0f9a2f5f0004", "name": "twice", "status": "active"},
        {"id": "8c0b5a0e-7a52-4d6c-9f43-0f9a2f5f0005", "name": "twice", "status": "active"},
    ],
    "networks": [{"id": NETWORK, "name": "tenant-7", "subnets": [SUBNET], "status": "ACTIVE"}],
    "security-groups": [{"id": "8c0b5a0e-7a52-4d6c-9f43-0f9a2f5f0006", "name": "web"}],
    "os-server-groups": [
        {"id": "8c0b5a0e-7a52-4d6c-9f43-0f9a2f5f0007", "name": "together", "policy": "affinity"}
    ],
}
SUBNET_CIDR = ip_network("10.99.0.0/24")
SERVICES = {
    "compute": "/compute/v2.1",
    "network": "/networking",
    "image": "/image",
    "identity": "/identity/v3",
}


def token_body(url: str, user: str) -> dict[str, Any]:
    """What Keystone says of a token: whose it is, and where the services are."""
    catalog = [
        {
            "type": kind,
            "name": kind,
            "id": kind,
            "endpoints": [
                {
                    "interface": "public",
                    "region": "RegionOne",
                    "region_id": "RegionOne",
                    "url": f"{url}{path}",
                    "id": kind,
                }
            ],
        }
        for kind, path in SERVICES.items()
    ]
    domain = {"id": "default", "name": "Default"}
    return {
        "methods": ["password"],
        "user": {"id": user, "name": user, "domain": domain},
        "project": {"id": PROJECT, "name": "sn", "domain": domain},
        "roles": [{"id": "member", "name": "member"}],
        "catalog": catalog,
        "issued_at": now(),
        "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat().replace("+00:00", "Z"),
    }


def now() -> str:
    """As the services write a time."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
