"""Files that are no configuration: the exact line for everything that can be wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sncontroller.config import ConfigError, load
from tests.unit.configs import GROUP, README, problems, written


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "configuration: is empty; describe at least one group in it"),
        ("# nothing\n", "configuration: is empty; describe at least one group in it"),
        ("web", "configuration: must hold a mapping with the key 'groups', not 'web'"),
        ("- web", "configuration: must hold a mapping with the key 'groups', not a list"),
        (
            "poll_interval_s: 1",
            "groups: is missing; it must be a mapping of a group's name to its settings, "
            "as in groups: {web: {...}}",
        ),
        (
            "groups:",
            "groups: must be a mapping of a group's name to its settings, "
            "as in groups: {web: {...}}, not nothing (line 1)",
        ),
        (
            "groups: [web]",
            "groups: must be a mapping of a group's name to its settings, "
            "as in groups: {web: {...}}, not a list (line 1)",
        ),
        (
            "groups:\n\tweb: {}",
            "configuration: a tab stands where YAML wants spaces; indent with spaces (line 2)",
        ),
        (
            "groups:\n  web: [80\n",
            "configuration: is no valid YAML: while parsing a flow sequence, expected ',' or ']', "
            "but got '<stream end>', at column 1 (line 3)",
        ),
        (
            'groups: "web\n',
            "configuration: is no valid YAML: while scanning a quoted scalar, "
            "found unexpected end of stream, at column 1 (line 2)",
        ),
        (
            "groups: web: {}",
            "configuration: is no valid YAML: mapping values are not allowed here, "
            "at column 12 (line 1)",
        ),
        (
            "groups: *web",
            "configuration: is no valid YAML: found undefined alias 'web', at column 9 (line 1)",
        ),
        ("groups: &g [*g]", "configuration: has an alias that contains itself (line 1)"),
        (
            "groups: !!python/object/apply:os.system [ls]",
            "configuration: the tag python/object/apply:os.system is not allowed; "
            "leave it out (line 1)",
        ),
        (
            "groups: {{ web }}",
            "configuration: a mapping or list stands where a key is wanted; "
            "put quotes around {...} or [...] (line 1)",
        ),
        (
            "groups: {}\n---\ngroups: {}",
            "configuration: holds a second document; keep what stands before this '---' (line 2)",
        ),
        (
            "groups: {}\ngroups: {}",
            "groups: is written twice, first in line 1; keep one (line 2)",
        ),
        (
            "groups: \x07",
            "configuration: character 9 cannot stand in YAML: special characters are not allowed",
        ),
        ("[" * 2000, "configuration: is nested too deeply"),
    ],
)
def test_what_is_no_configuration_at_all(text: str, line: str) -> None:
    """One line each, with the place and the mend."""
    assert problems(text) == [line]


def test_keys_written_twice_are_all_named() -> None:
    """Deep inside, too."""
    text = written(web=GROUP).replace('"primary"', '"match": {}, "primary"')
    text += "  web: {}\n"
    assert problems(text) == [
        "groups.web.match: is written twice, first in line 2; keep one (line 2)",
        "groups.web: is written twice, first in line 2; keep one (line 3)",
    ]


def test_aliases_cannot_make_a_file_explode() -> None:
    """A small file whose aliases stand for a billion values is refused, not expanded."""
    levels = (f"k{i + 1}: &k{i + 1} [{', '.join([f'*k{i}'] * 9)}]" for i in range(9))
    text = "\n".join(["k0: &k0 [x, x, x]", *levels])
    assert problems(text) == ["configuration: holds more than 100000 values"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """The path, and why."""
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"groups: \xff\xfe")
    cases = {
        tmp_path / "missing.yaml": "there is no such file",
        tmp_path: "is a directory; name the YAML file in it",
        binary: "is not UTF-8 text (byte 9); save it as UTF-8",
    }
    for path, message in cases.items():
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(caught.value) == f"{path}: {message}"


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    """Permission denied, as somebody who is not root gets it."""
    file = tmp_path / "sn.yaml"
    file.write_text(README)
    file.chmod(0)
    tmp_path.chmod(0o755)
    before = os.geteuid()
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError) as caught:
            load(file)
    finally:
        os.seteuid(before)
    assert str(caught.value) in (
        f"{file}: cannot be read: permission denied; run as its owner or root",
    )
