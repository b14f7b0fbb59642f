"""Commands that ask the running controller, over its REST interface."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import click

from sncontroller.cli import shell
from sncontroller.errors import OperatorError, RefusedError

DEFAULT_API = "http://127.0.0.1:8080"
TIMEOUT_S = 10.0
FOLLOW_EVERY_S = 1.0
F = TypeVar("F", bound=Callable[..., Any])
# No proxy: the controller is on this machine or on a management network.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Api:
    """The controller's REST interface."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get(self, path: str, **query: Any) -> Any:
        """The answer to a GET."""
        given = {key: value for key, value in query.items() if value is not None}
        return self._ask("GET", f"{path}?{urlencode(given)}" if given else path, None)

    def post(self, path: str, body: Any = None) -> Any:
        """The answer to a POST."""
        return self._ask("POST", path, b"" if body is None else json.dumps(body).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json"}
        try:
            request = urllib.request.Request(self.url + path, body, headers, method=method)
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error.code, error.read()) from None
        except ValueError as error:
            if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
                raise self._stranger() from None
            raise OperatorError(f"--api {self.url}: {error}; give it as {DEFAULT_API}") from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            words = getattr(reason, "strerror", None) or str(reason)
            raise OperatorError(
                f"no controller answers at {self.url}: {words.lower()}; "
                "start it (sncontroller run FILE), or name its address with --api"
            ) from None

    def _refusal(self, code: int, body: bytes) -> Exception:
        """What an error status means here."""
        from sncontroller.config import ConfigError, Problem

        try:
            answer = json.loads(body)
            message = str(answer["error"])
        except (ValueError, KeyError, TypeError):
            return self._stranger()
        if "problems" in answer:
            found = (
                Problem(each["path"], each["message"], each.get("line"))
                for each in answer["problems"]
            )
            return ConfigError((*found, Problem("reload", message)))
        return RefusedError(message) if code == 409 else OperatorError(message)

    def _stranger(self) -> OperatorError:
        return OperatorError(f"{self.url} answers, but is no sncontroller; name ours with --api")


def of_api(command: F) -> F:
    """Add ``--api``."""
    return click.option(
        "--api",
        envvar="SNCONTROLLER_API",
        default=DEFAULT_API,
        show_default=True,
        metavar="URL",
        help="Where the controller's REST interface is.  [env: SNCONTROLLER_API]",
    )(command)


GROUP = click.argument("group", metavar="GROUP")
NODE = click.argument("node", metavar="NODE")


@click.command()
@click.argument("group", metavar="[GROUP]", required=False)
@click.option("--watch", metavar="SECONDS", type=click.FloatRange(min=0.1), help="Again and again.")
@of_api
@shell.as_json
def status(group: str | None, watch: float | None, api: str, json_: bool) -> None:
    """Show groups and their nodes."""
    source = Api(api)
    if json_:
        while True:
            shell.print_json(_status(source, group))
            if watch is None:
                return
            time.sleep(watch)
    from sncontroller.cli import tables

    if watch is None:
        tables.print_status(_status(source, group))
    else:
        tables.watch_status(lambda: _status(source, group), watch)


def _status(source: Api, group: str | None) -> dict[str, Any]:
    shown: dict[str, Any] = source.get("/v1/status")
    if group is not None:
        shown["groups"] = [source.get(f"/v1/groups/{quote(group, safe='')}")]
    return shown


def _verb(name: str, text: str) -> click.Command:
    """The command that asks something of one node."""

    @click.command(name, help=text)
    @GROUP
    @NODE
    @of_api
    @shell.as_json
    def ask(group: str, node: str, api: str, json_: bool) -> None:
        path = f"/v1/groups/{quote(group, safe='')}/nodes/{quote(node, safe='')}/{name}"
        answer = Api(api).post(path)
        if json_:
            shell.print_json(answer)
        else:
            click.echo(_node_line(answer, node))

    return ask


def _node_line(group: dict[str, Any], node: str) -> str:
    for each in group["nodes"]:
        if node in (each["name"], str(each["index"])):
            return f"{each['name']} is {each['state']}: {each['reason']}"
    return f"{node} is gone"


drain = _verb(
    "drain",
    "Let NODE of GROUP take no new flows, and go when those it has ended. NODE is its name or "
    "its number.",
)
undrain = _verb("undrain", "Let a draining NODE of GROUP take new flows again.")
fail = _verb(
    "fail",
    "Treat NODE of GROUP as dead: its connections go elsewhere at once, and so break. For a node "
    "that answers probes and serves wrongly.",
)


@click.command()
@GROUP
@click.argument("nodes", metavar="N|auto")
@of_api
@shell.as_json
def scale(group: str, nodes: str, api: str, json_: bool) -> None:
    """Set GROUP to N nodes, the primary included, or give it back to its policy with auto.

    What is set holds until auto; over the controller's end only with state_dir.
    """
    if nodes != "auto" and not (nodes.isdigit() and int(nodes) > 0):
        raise click.UsageError(
            f"'{nodes}' must be a number of nodes, at least 1, or auto", click.get_current_context()
        )
    wanted = None if nodes == "auto" else int(nodes)
    answer = Api(api).post(f"/v1/groups/{quote(group, safe='')}/scale", {"nodes": wanted})
    if json_:
        shell.print_json(answer)
    else:
        automatic = ", chosen by its policy" if wanted is None else ""
        number = answer["wanted"] if wanted is None else wanted  # without a switch it is to come
        nodes = f"{number} node{'' if number == 1 else 's'}"
        click.echo(f"{group} wants {nodes}{automatic}; {answer['active']} serve")


@click.command()
@of_api
@shell.as_json
def reload(api: str, json_: bool) -> None:
    """Let the controller read its configuration file again and apply what changed.

    A file with problems changes nothing: they are printed, and the exit code is 2.
    """
    answer = Api(api).post("/v1/reload")
    if json_:
        shell.print_json(answer)
    else:
        click.echo(f"reloaded; changed groups: {', '.join(answer['changed']) or 'none'}")


@click.command()
@click.argument("group", metavar="[GROUP]", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens from now on.")
@of_api
@shell.as_json
def events(group: str | None, follow: bool, api: str, json_: bool) -> None:
    """Show what happened, to which node, when and why."""
    from sncontroller.cli import tables

    source = Api(api)
    since_s: float | None = None
    while True:
        found = source.get("/v1/events", group=group, since=since_s)["events"]
        if json_ and not follow:
            shell.print_json(found)
        for event in found if follow or not json_ else ():
            click.echo(json.dumps(event) if json_ else tables.event_line(event))
        if not follow:
            return
        since_s = max((event["time_s"] for event in found), default=since_s)
        time.sleep(FOLLOW_EVERY_S)
