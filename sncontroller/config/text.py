"""YAML text to plain values that know the lines they came from.

Owns the dialect: the scalars of YAML 1.2's core schema, because YAML 1.1 reads the hardware address
``52:54:00:12:34:56`` as a number in base 60 and ``no`` as false. A key written twice is an error.
It knows nothing of what the keys mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from sncontroller.config.problems import ConfigError, Problem

Key: TypeAlias = str | int
MAX_PARTS = 100_000
"""Values in one file, aliases counted as often as they are used."""


class _Loader(yaml.SafeLoader):
    """A safe loader with YAML 1.2's idea of a number, a boolean and nothing."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own declaration


def _resolve(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolve("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolve("null", r"^(?:~|null|Null|NULL|)$", "~nN\0")
_Loader.yaml_implicit_resolvers[""] = _Loader.yaml_implicit_resolvers.pop("\0")
_DIGITS = "[0-9]+(?:_[0-9]+)*"  # with YAML 1.1's 1_000_000, which is easier on the eye
_resolve("int", rf"^(?:[-+]?{_DIGITS}|0x[0-9a-fA-F]+)$", "-+0123456789")
_resolve(
    "float",
    rf"^(?:[-+]?(?:\.[0-9]+|{_DIGITS}(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$",
    "-+0123456789.",
)
_resolve("merge", r"^(?:<<)$", "<")
_Loader.add_constructor(
    "tag:yaml.org,2002:int",
    lambda loader, node: int(node.value, 16 if node.value.startswith("0x") else 10),
)


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content, and where in the text each part of it stands."""

    value: Any
    _root: yaml.Node

    def place(self, keys: tuple[Key, ...]) -> tuple[str, int | None]:
        """The path as a person writes it, and the line of its deepest part that is written."""
        node: yaml.Node | None = self._root
        text, line = "", None
        for key in keys:
            in_list = isinstance(key, int) and not isinstance(node, yaml.MappingNode)
            text += f"[{key}]" if in_list else f".{key}"
            step = None if node is None else _child(node, key)
            line, node = (line, None) if step is None else step
        return text.removeprefix("."), line


def read(text: str, name: str) -> Document:
    """The document in ``text``. Raises ``ConfigError``; ``name`` is what its problems call it."""
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise ConfigError([Problem(name, "is empty; describe at least one group in it")])
            _require_finite(root, name)
            twice = tuple(_written_twice(root, "", set()))
            value = loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax_problem(error, name)]) from None
    except yaml.reader.ReaderError as error:
        message = f"character {error.position + 1} cannot stand in YAML: {error.reason}"
        raise ConfigError([Problem(name, message)]) from None
    except RecursionError:
        raise ConfigError([Problem(name, "is nested too deeply")]) from None
    except ValueError as error:
        raise ConfigError([Problem(name, f"has a number that cannot be read: {error}")]) from None
    if twice:
        raise ConfigError(twice)
    return Document(value, root)


def _child(node: yaml.Node, key: Key) -> tuple[int, yaml.Node] | None:
    """The line and the node of one part of a mapping or a list."""
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        item = node.value[key]
        return item.start_mark.line + 1, item
    if isinstance(node, yaml.MappingNode):
        for name, value in reversed(node.value):  # what was merged in stands first
            if name.value == str(key):
                return name.start_mark.line + 1, value
    return None


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _require_finite(root: yaml.Node, name: str) -> None:
    """Raises ``ConfigError`` when aliases make the document endless, or very large."""
    sizes: dict[int, int | None] = {}  # None while the node is being counted

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            known = sizes[id(node)]
            if known is None:
                line = node.start_mark.line + 1
                raise ConfigError([Problem(name, "has an alias that contains itself", line)])
            return known
        sizes[id(node)] = None
        sizes[id(node)] = total = 1 + sum(size(part) for part in _parts(node))
        return total

    if size(root) > MAX_PARTS:
        raise ConfigError([Problem(name, f"holds more than {MAX_PARTS} values")])


def _written_twice(node: yaml.Node, path: str, seen: set[int]) -> Iterator[Problem]:
    """A problem for every key that its mapping has already; each node is looked at once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for at, item in enumerate(node.value):
            yield from _written_twice(item, f"{path}[{at}]", seen)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                continue
            key, line = name.value, name.start_mark.line + 1
            below = f"{path}.{key}".removeprefix(".")
            if key in first:
                message = f"is written twice, first in line {first[key]}; keep one"
                yield Problem(below, message, line)
            first.setdefault(key, line)
            yield from _written_twice(value, below, seen)


def _syntax_problem(error: yaml.MarkedYAMLError, name: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = None if mark is None else mark.line + 1
    return Problem(name, _syntax_message(error, mark), line)


def _syntax_message(error: yaml.MarkedYAMLError, mark: yaml.Mark | None) -> str:
    problem = error.problem or str(error.context)
    if "'\\t'" in problem:
        return "a tab stands where YAML wants spaces; indent with spaces"
    if "but found another document" in problem:
        return "holds a second document; keep what stands before this '---'"
    if problem.startswith("found unhashable key"):
        return "a mapping or list stands where a key is wanted; put quotes around {...} or [...]"
    if problem.startswith("could not determine a constructor"):
        return (
            f"the tag {problem.rpartition('2002:')[2].strip(chr(39))} is not allowed; leave it out"
        )
    context = f"{error.context}, " if error.context else ""
    column = "" if mark is None else f", at column {mark.column + 1}"
    return f"is no valid YAML: {context}{problem}{column}"
