"""What is wrong with a configuration: every problem at once, each with its place and its mend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. ``path`` is ``groups.web.match.address``, or the file's own name."""

    path: str
    message: str
    line: int | None = None
    """Where in the file, counted from 1."""

    def __str__(self) -> str:
        where = "" if self.line is None else f" (line {self.line})"
        return _on_one_line(f"{self.path}: {self.message}{where}")


def _on_one_line(text: str) -> str:
    """The text with everything escaped that a terminal would not print."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


class ConfigError(Exception):
    """A configuration that cannot be used; its text has one line ``path: message`` per problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
