"""An OpenStack cloud as the plugin sees it: Neutron ports and Nova servers, by openstacksdk.

Owns the calls, how their answers become values, and what their failures mean to the controller. The
library is imported with the first call, so that a controller without the extra ``openstack`` can
load the plugin and say what is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from sncontroller.hypervisors.base import HypervisorError, PermanentError, TransientError

__all__ = ["Cloud", "ConflictError", "Port", "Server", "is_installed"]

_OVER: Final = ("quota exceeded", "exceeds allowed", "no more ip addresses")
"""Words of Nova's 403 and Neutron's 409 that tell that there is no room now."""
_TAKEN: Final = ("in use", "already allocated")
_TRY_AGAIN: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,  # what Nova's rate limits said before 429
        HTTPStatus.LOCKED,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
_SAID_MAX: Final = 300


class ConflictError(PermanentError):
    """An address that is asked for belongs to another port."""


@dataclass(frozen=True, slots=True)
class Port:
    """A Neutron port."""

    id: str
    mac: str
    address: str
    """Its first fixed address, empty when it has none."""
    description: str
    server: str
    """The server that it is plugged into, empty when there is none."""


@dataclass(frozen=True, slots=True)
class Server:
    """A Nova server."""

    id: str
    name: str
    status: str
    """As Nova has it: BUILD, ACTIVE, ERROR..."""
    deleting: bool
    fault: str
    created: str
    metadata: Mapping[str, str]


def is_installed() -> bool:
    """Whether openstacksdk can be imported."""
    return find_spec("openstack") is not None


class Cloud:
    """One cloud of ``clouds.yaml``; every call ends in ``timeout_s`` per request."""

    def __init__(self, name: str, file: Path | None, timeout_s: float) -> None:
        """Name the cloud; nothing is asked until the first call."""
        self._name = name
        self._file = file
        self._timeout_s = timeout_s
        self._connections = threading.local()  # a connection is for one thread

    # -- by name or id ---------------------------------------------------------------------------

    def network(self, name: str) -> str:
        """The network's id. Raises ``PermanentError`` when there is none of this name."""
        with self._errors(f"network {name}"):
            return _id(self._sdk.network.find_network(name, ignore_missing=False))

    def security_group(self, name: str) -> str:
        """The security group's id."""
        with self._errors(f"security group {name}"):
            return _id(self._sdk.network.find_security_group(name, ignore_missing=False))

    def flavor(self, name: str) -> str:
        """The flavor's id."""
        with self._errors(f"flavor {name}"):
            return _id(self._sdk.compute.find_flavor(name, ignore_missing=False))

    def image(self, name: str) -> str:
        """The image's id."""
        with self._errors(f"image {name}"):
            return _id(self._sdk.image.find_image(name, ignore_missing=False))

    def server_group(self, name: str) -> str:
        """The server group's id."""
        with self._errors(f"server group {name}"):
            return _id(self._sdk.compute.find_server_group(name, ignore_missing=False))

    # -- ports -----------------------------------------------------------------------------------

    def ports(self, name: str | None = None) -> tuple[Port, ...]:
        """The ports that the project has, or those of this name."""
        query = {} if name is None else {"name": name}
        with self._errors("list ports"):
            return tuple(_port(found) for found in self._sdk.network.ports(**query))

    def create_port(self, **attributes: Any) -> Port:
        """A new port. Raises ``ConflictError`` when its MAC or address is another port's."""
        with self._errors("create port"):
            return _port(self._sdk.network.create_port(**attributes))

    def delete_port(self, port: str) -> None:
        """Ensure that the port is gone."""
        with self._errors(f"delete port {port}"):
            self._sdk.network.delete_port(port, ignore_missing=True)

    # -- servers ---------------------------------------------------------------------------------

    def servers(self, pattern: str) -> tuple[Server, ...]:
        """The servers whose name the regular expression finds."""
        with self._errors("list servers"):
            found = self._sdk.compute.servers(details=True, name=pattern)
            return tuple(_server(server) for server in found)

    def server(self, server: str) -> Server | None:
        """The server of this id, ``None`` when it is gone."""
        with self._errors(f"show server {server}"):
            try:
                return _server(self._sdk.compute.get_server(server))
            except Exception as error:
                if getattr(error, "status_code", None) == HTTPStatus.NOT_FOUND:
                    return None
                raise

    def create_server(self, **attributes: Any) -> str:
        """The id of a new server, which is being built."""
        with self._errors("create server"):
            return _id(self._sdk.compute.create_server(**attributes))

    def delete_server(self, server: str) -> None:
        """Ask that the server be deleted; that takes its time."""
        with self._errors(f"delete server {server}"):
            self._sdk.compute.delete_server(server, ignore_missing=True)

    # -- connection and errors -------------------------------------------------------------------

    @property
    def _sdk(self) -> Any:
        """This thread's connection."""
        connection = getattr(self._connections, "made", None)
        if connection is None:
            connection = self._connections.made = self._connect()
        return connection

    def _connect(self) -> Any:
        if not is_installed():
            raise PermanentError("openstacksdk is missing: pip install 'sncontroller[openstack]'")
        import openstack
        from openstack.config import OpenStackConfig

        files = None if self._file is None else [str(self._file)]
        config = OpenStackConfig(config_files=files, load_envvars=False)
        region = config.get_one(cloud=self._name, api_timeout=self._timeout_s)
        return openstack.connection.Connection(config=region, app_name="sncontroller")

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except HypervisorError:
            raise
        except (KeyError, TypeError, AttributeError) as error:
            raise TransientError(
                f"cloud {self._name}: {what}: an answer that is not OpenStack's: {error}"
            ) from error
        except Exception as error:
            raise _meaning(error, f"cloud {self._name}: {what}") from error


def _meaning(error: Exception, what: str) -> HypervisorError:
    """What a failure of the library means. Its exceptions have no base in common."""
    from keystoneauth1 import exceptions as auth
    from openstack import exceptions as sdk

    said = f"{what}: {_said(error)}"
    status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
    if status is not None:
        return _refusal(int(status), said)
    for_good = (
        sdk.ConfigException,
        sdk.NotFoundException,
        sdk.DuplicateResource,
        auth.MissingRequiredOptions,
        auth.NoMatchingPlugin,
        auth.CatalogException,
    )
    return PermanentError(said) if isinstance(error, for_good) else TransientError(said)


def _refusal(status: int, said: str) -> HypervisorError:
    words = said.lower()
    if any(word in words for word in _OVER):
        return TransientError(f"out of quota or room: {said}")
    if status == HTTPStatus.CONFLICT and any(word in words for word in _TAKEN):
        return ConflictError(said)
    if status == HTTPStatus.UNAUTHORIZED:
        return PermanentError(f"the cloud does not accept the credentials: {said}")
    return TransientError(said) if status >= 500 or status in _TRY_AGAIN else PermanentError(said)


def _said(error: Exception) -> str:
    details = getattr(error, "details", None)
    status = getattr(error, "status_code", None)
    said = f"{status} {details}" if details and status else str(error)
    return " ".join(said.split())[:_SAID_MAX] or type(error).__name__


def _id(found: Any) -> str:
    """Its id; the library makes a resource without one of any answer."""
    if not found["id"]:
        raise KeyError("id")
    return str(found["id"])


def _port(found: Any) -> Port:
    fixed: Sequence[Mapping[str, str]] = found["fixed_ips"] or ()
    return Port(
        id=_id(found),
        mac=str(found["mac_address"]).lower(),
        address=fixed[0]["ip_address"] if fixed else "",
        description=found["description"] or "",
        server=found["device_id"] or "",
    )


def _server(found: Any) -> Server:
    return Server(
        id=_id(found),
        name=str(found["name"]),
        status=str(found["status"]),
        deleting=found["task_state"] == "deleting",
        fault=(found["fault"] or {}).get("message", ""),
        created=found["created_at"] or "",
        metadata=dict(found["metadata"] or {}),
    )
