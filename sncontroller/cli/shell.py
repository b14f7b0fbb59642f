"""How commands fail, and the options that several of them have.

Owns the way from an error to one line and an exit code. Heavy imports stay out of here: ``--help``
and completion must be quick.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sncontroller.errors import OperatorError, RefusedError

if TYPE_CHECKING:
    from sncontroller.config import Config

REFUSED = 1
"""Exit code: there is a difference, or the request was refused."""
WRONG = 2
"""Exit code: usage, configuration or environment."""
INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """A group of commands whose failures are one line each, and whose results are exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were added, which is that of work."""
        return list(self.commands)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with the code."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a bar is no reason to fail in ISO 8859-1
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(WRONG)
        except Exception as error:
            if not standalone_mode:
                raise
            lines, code = _failure(error)
            for line in lines:
                click.echo(line, err=True)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


def _failure(error: Exception) -> tuple[list[str], int]:
    """What to say about an error, and the exit code. Raises what is a bug of ours."""
    if isinstance(error, click.Abort):  # perhaps in the middle of the import below
        return [], INTERRUPTED
    from sncontroller.config import ConfigError

    match error:
        case click.exceptions.NoArgsIsHelpError():
            return [error.format_message()], WRONG
        case click.UsageError():
            path = "sncontroller" if error.ctx is None else error.ctx.command_path
            message = error.format_message().rstrip(".")
            return [f"sncontroller: {_lower_first(message)}; see {path} --help"], WRONG
        case click.ClickException():
            return [f"sncontroller: {_lower_first(error.format_message())}"], WRONG
        case ConfigError():
            return [str(problem) for problem in error.problems], WRONG
        case OperatorError():
            return [f"sncontroller: {error}"], WRONG
        case RefusedError():
            return [f"sncontroller: {error}"], REFUSED
        case OSError(strerror=str(reason)):
            where = "cannot write" if error.filename is None else str(error.filename)
            return [f"sncontroller: {where}: {_lower_first(reason)}"], WRONG
    raise error


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def configuration(path: str) -> Config:
    """The configuration in a file. Raises ``ConfigError``."""
    from sncontroller import config

    return config.load(path)


def as_json(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "json_", is_flag=True, help="Print JSON.")(command)


def print_json(value: Any) -> None:
    """A value as indented JSON."""
    click.echo(json.dumps(value, indent=2))


def of_switch(command: F) -> F:
    """Add the options that say which Open vSwitch is meant."""
    ovsdb = click.option(
        "--ovsdb",
        envvar="OVS_DB",
        metavar="REMOTE",
        help="Its database, as unix:/path/db.sock.  [default: the system's; env: OVS_DB]",
    )
    rundir = click.option(
        "--rundir",
        envvar="OVS_RUNDIR",
        metavar="DIR",
        help="Directory of its sockets.  [default: that of --ovsdb; env: OVS_RUNDIR]",
    )
    return ovsdb(rundir(command))


class Pair(click.ParamType[tuple[str, Any]]):
    """``NAME=VALUE``."""

    def __init__(self, value: str, read: Callable[[str], Any]) -> None:
        self.name = f"NAME={value}"
        self._read = read

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """The name and the value."""
        if isinstance(value, tuple):
            return value[0], value[1]
        name, equals, text = str(value).partition("=")
        try:
            if not (name and equals):
                raise ValueError
            return name, self._read(text)
        except ValueError:
            self.fail(f"'{value}' must be {self.name}", param, ctx)


def _mac(text: str) -> str:
    octets = text.lower().split(":")
    if len(octets) != 6 or any(len(octet) != 2 for octet in octets):
        raise ValueError
    for octet in octets:
        int(octet, 16)
    return ":".join(octets)


def _port_number(text: str) -> int:
    number = int(text)
    if not 0 < number < 0xFF00:
        raise ValueError
    return number


def of_ports(command: F) -> F:
    """Add the options that say what cannot be asked of a switch."""
    ports = click.option(
        "--port",
        "ports",
        metavar="NAME=NUMBER",
        multiple=True,
        type=Pair("NUMBER", _port_number),
        help="OpenFlow number of a port; repeatable.",
    )
    macs = click.option(
        "--mac",
        "macs",
        metavar="NAME=MAC",
        multiple=True,
        type=Pair("MAC", _mac),
        help="Hardware address behind the primary's port.",
    )
    return ports(macs(command))


class Endpoint(click.ParamType[tuple[str, int]]):
    """``HOST:PORT``; IPv6 addresses in brackets."""

    name = "HOST:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Host and port."""
        if isinstance(value, tuple):
            return value[0], value[1]
        host, colon, port = str(value).rpartition(":")
        if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
            self.fail(f"'{value}' must be {self.name}, as 127.0.0.1:6653", param, ctx)
        return host.strip("[]"), int(port)
