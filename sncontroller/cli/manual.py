"""The commands as a page: ``python -m sncontroller.cli.manual > docs/cli.md``.

Written from the commands themselves, as ``--help`` is; a test holds the page to this.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from sncontroller.cli import main

_HEAD = """\
# Commands

Made from the commands' own help by `python -m sncontroller.cli.manual`. Exit codes of all of them:
0 done; 1 there is a difference, or the request was refused; 2 usage, configuration or environment
is wrong. Every failure is one line on standard error that says what to do. `--json` prints JSON on
standard output.
"""


def page() -> str:
    """The page in Markdown."""
    return "\n".join([_HEAD, *_lines(main, "sncontroller")])


def _lines(group: click.Group, path: str) -> Iterator[str]:
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _lines(command, f"{path} {name}")
        elif command is not None:
            yield from _section(command, f"{path} {name}")


def _section(command: click.Command, path: str) -> Iterator[str]:
    arguments = [_metavar(each) for each in command.params if isinstance(each, click.Argument)]
    options = [each for each in command.params if isinstance(each, click.Option)]
    yield f"## {path} {' '.join(arguments)}".rstrip()
    yield ""
    yield from _text(command.help or "")
    if options:
        yield from ("| option | |", "|---|---|", *map(_row, options), "")
    if command.epilog:
        yield from _text(command.epilog)


def _text(text: str) -> Iterator[str]:
    """Paragraphs; those that click must not wrap become blocks of code."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if not paragraph.startswith("\b\n"):
            yield from (paragraph, "")
            continue
        title, _, block = paragraph.removeprefix("\b\n").partition("\n")
        yield from (title, "", "```", inspect.cleandoc(f"\n{block}"), "```", "")


def _row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    value = "" if option.is_flag else f" `{_metavar(option)}`"
    default = f" Default: `{_default(option)}`." if option.show_default else ""
    cells = (f"{names}{value}", f"{' '.join((option.help or '').split())}{default}")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(option: click.Option) -> str:
    default = option.default
    return f"{default[0]}:{default[1]}" if isinstance(default, tuple) else str(default)


def _metavar(parameter: click.Parameter) -> str:
    return parameter.metavar or (parameter.name or "").upper()


if __name__ == "__main__":
    print(page(), end="")
