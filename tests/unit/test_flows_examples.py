"""The worked examples are what the compiler writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import compiled, examples


@pytest.mark.parametrize("example", examples(), ids=lambda path: path.stem)
def test_an_example_is_what_the_compiler_writes(example: Path) -> None:
    """Mend a difference with ``python -m flows``, and read what it changes."""
    for path, text in compiled(example).items():
        assert path.read_text() == text
