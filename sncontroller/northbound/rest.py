"""The JSON interface on Ryu's web server: reads and requests, never decisions.

Owns URLs, status codes and the shape of errors: every one is ``{"error": "one line"}``. What a
request means is the ``Brain``'s business.

    GET  /v1/status                               everything there is to see
    GET  /v1/groups/{group}                       one group of it
    GET  /v1/events?group=NAME&since=TIME_S       the event log, oldest first
    POST /v1/groups/{group}/scale                 {"nodes": 3}, or {"nodes": null} for automatic
    POST /v1/groups/{group}/nodes/{node}/{verb}   drain, undrain or fail
    POST /v1/reload                               read the configuration file again
    GET  /metrics                                 for Prometheus
"""

from __future__ import annotations

import functools
import json
import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

from ryu.app.wsgi import ControllerBase, Response, WSGIApplication, route

from sncontroller.config import ConfigError
from sncontroller.controller import ConflictError, UnknownError
from sncontroller.core.events import Verb
from sncontroller.northbound.metrics import CONTENT_TYPE

LOG = logging.getLogger("sncontroller")
MAX_BODY_BYTES = 4096
WEB_SERVER_LOG = "ryu.lib.hub"
VERBS = {verb.value: verb for verb in Verb}


class Brain(Protocol):
    """Who answers: the application.

    Raises ``UnknownError`` for a group or node that is not there, and ``ConflictError`` for what
    cannot be done in the present state.
    """

    def status(self) -> dict[str, Any]:
        """Everything there is to see."""

    def metrics(self) -> str:
        """The same for Prometheus."""

    def ask(self, group: str, node: str, verb: Verb) -> None:
        """Drain, undrain or fail a node, named by its name or its index."""

    def scale(self, group: str, nodes: int | None) -> None:
        """Set the number of nodes, or give it back to the policy."""

    def reload(self) -> tuple[str, ...]:
        """Apply the configuration file anew; the groups that changed. Raises ``ConfigError``."""


def mount(application: WSGIApplication, brain: Brain) -> None:
    """Answer the interface's URLs on Ryu's web server, without a line of log for each request."""
    logging.getLogger(WEB_SERVER_LOG).setLevel(logging.WARNING)
    for controller in (Api, Unknown):
        application.register(controller, {"brain": brain})


class RequestError(Exception):
    """A request that cannot be served; the message is one line for the person who sent it."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


Handler = Callable[..., Any]


def _answers(handler: Handler) -> Handler:
    """Let a handler return plain values and raise plain errors."""

    @functools.wraps(handler)
    def answered(self: ControllerBase, req: Any, **parts: str) -> Any:
        try:
            _require_same_site(req)
            answer = handler(self, req, **parts)
        except RequestError as error:
            return _error(error.status, str(error))
        except UnknownError as error:
            return _error(HTTPStatus.NOT_FOUND, str(error))
        except ConflictError as error:
            return _error(HTTPStatus.CONFLICT, str(error))
        except Exception:
            LOG.exception("cannot answer %s %s", req.method, req.path_qs)
            message = "the controller failed at this request; its log says why"
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, message)
        return answer if isinstance(answer, Response) else _json(HTTPStatus.OK, answer)

    return answered


def _serves(method: str | None, path: str) -> Callable[[Handler], Handler]:
    """Register a handler for a URL with Ryu; ``None`` is every method."""

    def registered(handler: Handler) -> Handler:
        methods = None if method is None else [method]
        placed: Handler = route("sn", path, methods=methods)(_answers(handler))
        return placed

    return registered


class Api(ControllerBase):  # type: ignore[misc]  # Ryu has no types
    """The URLs above."""

    def __init__(self, req: Any, link: Any, data: dict[str, Brain], **config: Any) -> None:
        super().__init__(req, link, data, **config)
        self.brain = data["brain"]

    @_serves("GET", "/v1/status")
    def status(self, req: Any) -> Any:
        """Everything there is to see."""
        return self.brain.status()

    @_serves("GET", "/v1/groups/{group}")
    def group(self, req: Any, group: str) -> Any:
        """One group."""
        return self._group(group)

    @_serves("GET", "/v1/events")
    def events(self, req: Any) -> Any:
        """The event log of one group or of all, oldest first."""
        wanted, since_s = _asked(req, "group"), _time(_asked(req, "since"))
        groups = [self._group(wanted)] if wanted else self.brain.status()["groups"]
        found = [
            {"group": group["name"], **event}
            for group in groups
            for event in group["events"]
            if event["time_s"] > since_s
        ]
        return {"events": sorted(found, key=lambda event: event["time_s"])}

    @_serves("POST", "/v1/groups/{group}/scale")
    def scale(self, req: Any, group: str) -> Any:
        """Set the number of nodes; the group afterwards."""
        self.brain.scale(group, _nodes(_body(req)))
        return self._group(group)

    @_serves("POST", "/v1/groups/{group}/nodes/{node}/{verb}")
    def ask(self, req: Any, group: str, node: str, verb: str) -> Any:
        """Drain, undrain or fail a node; the group afterwards."""
        if verb not in VERBS:
            message = f"no verb '{verb}'; there are: {', '.join(VERBS)}"
            raise RequestError(HTTPStatus.NOT_FOUND, message)
        self.brain.ask(group, node, VERBS[verb])
        return self._group(group)

    @_serves("POST", "/v1/reload")
    def reload(self, req: Any) -> Any:
        """Read the file again; the groups that changed."""
        try:
            return {"changed": list(self.brain.reload())}
        except ConfigError as error:
            problems = [
                {"path": p.path, "message": p.message, "line": p.line} for p in error.problems
            ]
            text = "the configuration was refused, the running one stays"
            return _json(HTTPStatus.CONFLICT, {"error": text, "problems": problems})

    @_serves("GET", "/metrics")
    def metrics(self, req: Any) -> Any:
        """For Prometheus."""
        return Response(body=self.brain.metrics().encode(), headers={"Content-Type": CONTENT_TYPE})

    def _group(self, name: str) -> dict[str, Any]:
        groups: list[dict[str, Any]] = self.brain.status()["groups"]
        for group in groups:
            if group["name"] == name:
                return group
        known = ", ".join(group["name"] for group in groups) or "none"
        raise UnknownError(f"no group '{name}'; there are: {known}")


class Unknown(ControllerBase):  # type: ignore[misc]  # Ryu has no types
    """Every other URL below ``/v1``; registered last."""

    @_serves(None, "/v1/{path:.*}")
    def unknown(self, req: Any, path: str) -> Any:
        """Say that there is nothing, whatever the method."""
        message = f"nothing answers {req.method} /v1/{path}; start with GET /v1/status"
        raise RequestError(HTTPStatus.NOT_FOUND, message)


def _require_same_site(req: Any) -> None:
    """Refuse what a page of another site makes a browser send. Browsers name the page's origin."""
    origin = req.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != req.host:
        raise RequestError(HTTPStatus.FORBIDDEN, f"requests from pages of {origin} are refused")


def _body(req: Any) -> Any:
    if (req.content_length or 0) > MAX_BODY_BYTES:
        message = f"the body is longer than {MAX_BODY_BYTES} bytes"
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
    try:
        return json.loads(req.body)
    except (ValueError, RecursionError):
        raise RequestError(HTTPStatus.BAD_REQUEST, "the body is not JSON") from None


def _asked(req: Any, name: str) -> str | None:
    """A parameter of the URL's query."""
    try:
        value: str | None = req.GET.get(name)
    except UnicodeDecodeError:
        raise RequestError(HTTPStatus.BAD_REQUEST, "the query is not UTF-8") from None
    return value


def _nodes(body: Any) -> int | None:
    """The number in ``{"nodes": N}``; ``None`` for automatic."""
    wanted = 'the body must be {"nodes": N} with a whole number of at least 1, or {"nodes": null}'
    if not isinstance(body, dict) or set(body) != {"nodes"}:
        raise RequestError(HTTPStatus.BAD_REQUEST, wanted)
    nodes = body["nodes"]
    if nodes is None:
        return None
    if not isinstance(nodes, int) or isinstance(nodes, bool) or nodes < 1:
        raise RequestError(HTTPStatus.BAD_REQUEST, wanted)
    return nodes


def _time(text: str | None) -> float:
    """Seconds since the epoch; the beginning of time for ``None``."""
    try:
        value = float(text or "-inf")
    except ValueError:
        value = math.nan
    if math.isnan(value):
        message = f"since must be seconds since the epoch, not '{text}'"
        raise RequestError(HTTPStatus.BAD_REQUEST, message)
    return value


def _json(status: HTTPStatus, value: Any) -> Response:
    body = json.dumps(value, allow_nan=False).encode() + b"\n"
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return Response(status=int(status), body=body, headers=headers)


def _error(status: HTTPStatus, message: str) -> Response:
    return _json(status, {"error": message})
