"""Nodes behind a small HTTP protocol, for any hypervisor that somebody puts a server in front of.

Owns the client's side of the protocol, which ``docs/plugins.md`` defines. It keeps nothing between
calls: the server's answers are all that is known of nodes.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar
from urllib.parse import quote

import requests
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from sncontroller.hypervisors._http import reason
from sncontroller.hypervisors.base import (
    PROTOCOL_VERSION,
    NodeInfo,
    NodeRequest,
    NodeStatus,
    Owner,
    PermanentError,
    TransientError,
)

__all__ = ["DEADLINE_HEADER", "Rest", "RestConfig"]

DEADLINE_HEADER: Final = "Deadline-S"
"""Header of every request: after so many seconds nobody waits for its answer any more."""
_TRY_AGAIN: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.LOCKED,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)
_SAID_MAX: Final = 300

M = TypeVar("M", bound=BaseModel)


class RestConfig(BaseModel):
    """The plugin's section of a group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern="^https?://[^/?#]+[^?#]*$", description="Where the server is.")
    options: dict[str, JsonValue] = Field(
        {}, description="Sent with each node that is started: image, size, network."
    )
    timeout_s: float = Field(
        30.0, gt=0, le=600, description="The server may be silent for so long."
    )
    token_file: Path | None = Field(
        None, description="File with the bearer token; read at each call, so it may change."
    )
    ca_file: Path | None = Field(
        None, description="Certificates that the server's is checked with; the system's by default."
    )


class _Node(BaseModel):
    """A node in an answer; what else a server tells is ignored."""

    name: str
    index: int = Field(ge=1)
    port: str
    mac: str
    status: NodeStatus
    detail: str = ""
    address: str = ""

    @property
    def info(self) -> NodeInfo:
        return NodeInfo(**dict(self))


class _Nodes(BaseModel):
    nodes: tuple[_Node, ...]


class Rest:
    """The ``rest`` plugin: ``RestConfig`` is its section."""

    protocol_version: ClassVar[int] = PROTOCOL_VERSION
    Config: ClassVar[type[BaseModel]] = RestConfig

    def __init__(self, config: RestConfig, owner: Owner) -> None:
        """Serve one group; nothing is asked until the first call."""
        self._config = config
        whose = f"{quote(owner.controller, safe='')}/{quote(owner.group, safe='')}"
        self._nodes = f"{config.url.rstrip('/')}/v1/{whose}/nodes"

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Ensure that the node exists; one that the server calls broken is made again."""
        info = self._put(request)
        if info.status is NodeStatus.BROKEN:
            self.stop_node(request.name)
            info = self._put(request)
        if info.status is NodeStatus.BROKEN:
            raise TransientError(f"{request.name} was made anew and is broken: {info.detail}")
        return info

    def stop_node(self, name: str) -> None:
        """Ensure that the node is gone."""
        self._call("DELETE", self._url(name))

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """All nodes that the server has of this owner, sorted by index."""
        answer = self._call("GET", self._nodes)
        nodes = _parsed(_Nodes, answer, f"GET {self._nodes}").nodes
        return tuple(sorted((node.info for node in nodes), key=lambda node: node.index))

    def _put(self, request: NodeRequest) -> NodeInfo:
        url = self._url(request.name)
        node = {
            "index": request.index,
            "port": request.port,
            "mac": request.mac,
            "addresses": request.addresses,
            "options": self._config.options,
        }
        info = _parsed(_Node, self._call("PUT", url, node), f"PUT {url}").info
        if (info.name, info.index) != (request.name, request.index):
            raise PermanentError(f"PUT {url}: the answer is about {info.name}, index {info.index}")
        return info

    def _url(self, name: str) -> str:
        return f"{self._nodes}/{quote(name, safe='')}"

    def _call(self, method: str, url: str, body: object = None) -> bytes:
        """The body of a good answer. A node that is absent already is no error for DELETE."""
        timeout_s, ca_file = self._config.timeout_s, self._config.ca_file
        headers = {DEADLINE_HEADER: f"{timeout_s:g}", **self._authorization()}
        try:
            with requests.Session() as session:
                # neither proxies nor ~/.netrc, which would take the token's place
                session.trust_env = False
                session.verify = True if ca_file is None else str(ca_file)
                answer = session.request(
                    method,
                    url,
                    json=body,
                    headers=headers,
                    timeout=timeout_s,
                    allow_redirects=False,
                )
        except (requests.RequestException, OSError) as error:
            raise TransientError(f"{method} {url}: {reason(error)}") from error
        done = 200 <= answer.status_code < 300
        if done or (method == "DELETE" and answer.status_code == HTTPStatus.NOT_FOUND):
            return answer.content
        raise _refusal(f"{method} {url}", answer)

    def _authorization(self) -> dict[str, str]:
        file = self._config.token_file
        if file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {file.read_text().strip()}"}
        except OSError as error:
            raise PermanentError(f"token_file {file}: {error.strerror}") from error


def _refusal(what: str, answer: requests.Response) -> TransientError | PermanentError:
    again = answer.status_code >= 500 or answer.status_code in _TRY_AGAIN
    said = f"{what}: {answer.status_code} {_said(answer) or answer.reason}"
    return TransientError(said) if again else PermanentError(said)


def _said(answer: requests.Response) -> str:
    """The server's own words: ``error`` of a JSON object, or the text."""
    try:
        said: Any = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        said = answer.text
    return " ".join(str(said).split())[:_SAID_MAX]


def _parsed(model: type[M], body: bytes, what: str) -> M:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its body"
        raise PermanentError(
            f"{what}: no answer of the node protocol: {where}: {first['msg']}"
        ) from error
