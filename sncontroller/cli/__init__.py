"""The ``sncontroller`` command.

    shell     how commands fail, and options that several of them have
    files     run, check, plan, schema, hypervisor: from a configuration file
    bridges   diff, attach, detach: on a live bridge
    remote    status, drain, undrain, fail, scale, reload, events: asking the controller that runs
    tables    what status and events look like in a terminal

Exit codes: 0 done, 1 there is a difference or the request was refused, 2 usage, configuration or
environment is wrong. Every failure is one line on standard error that says what to do.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import click

import sncontroller
from sncontroller.cli import bridges, files, remote
from sncontroller.cli.shell import Commands

_EPILOG = """\
\b
Examples:
  sncontroller check sn.yaml               is the configuration right?
  sncontroller plan sn.yaml --nodes 3      what would be on the switch?
  sncontroller attach br0                  put the bridge under the controller
  sncontroller run sn.yaml                 start the controller
  sncontroller status --watch 1            see it work

\b
Completion in bash (zsh and fish alike):
  eval "$(_SNCONTROLLER_COMPLETE=bash_source sncontroller)"
"""


_PARTS = {"simulate": "sncontroller.simulate.command"}
"""Commands with a module of their own, of which their command is an attribute of their name."""


class _Root(Commands):
    """All commands; those of ``_PARTS`` are imported when they are wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names for --help."""
        there = (name for name, module in _PARTS.items() if find_spec(module) is not None)
        return [*super().list_commands(ctx), *there]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        module = _PARTS.get(cmd_name)
        if module is None or find_spec(module) is None:
            return super().get_command(ctx, cmd_name)
        found: click.Command = getattr(import_module(module), cmd_name)
        return found


@click.group(cls=_Root, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    sncontroller.__version__, prog_name="sncontroller", message="%(prog)s %(version)s"
)
def main() -> None:
    """Elastic service node groups for Open vSwitch."""


for command in (
    files.run,
    files.check,
    files.plan,
    bridges.diff,
    bridges.attach,
    bridges.detach,
    remote.status,
    remote.drain,
    remote.undrain,
    remote.fail,
    remote.scale,
    remote.reload,
    remote.events,
    files.schema,
    files.hypervisor,
):
    main.add_command(command)

__all__ = ["main"]
