"""The files of a VM: its copy-on-write disk, and the seed disk that tells cloud-init who it is.

Owns the programs that make them. Each file is made under its final name: what a killed process has
half-made is found by the domain's record, which has the name before there is a file.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sncontroller.hypervisors.base import PermanentError
from sncontroller.lab.programs import dies_with_parent, program

TIMEOUT_S: Final = 30


def make_disk(disk: Path, image: Path, image_format: str) -> None:
    """A disk that has only what differs from the image. Raises ``PermanentError``."""
    disk.parent.mkdir(parents=True, exist_ok=True)
    backing = ("-b", str(image), "-F", image_format)
    _run("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(disk))


def make_seed(seed: Path, files: Mapping[str, str]) -> None:
    """A disk with these texts, as cloud-init's NoCloud looks for it. Raises ``PermanentError``."""
    seed.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        for name, text in files.items():
            (Path(directory) / name).write_text(text, encoding="utf-8")
        seed.touch(mode=0o600)  # user data may have secrets
        label = ("-volid", "cidata", "-joliet", "-rock")
        _run("genisoimage", "-quiet", *label, "-o", str(seed), directory)


def _run(name: str, *arguments: str) -> None:
    done = subprocess.run(
        [*dies_with_parent(), program(name), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode != 0:
        said = " ".join(done.stderr.split())
        raise PermanentError(f"{name} {' '.join(arguments)}: {said}")
