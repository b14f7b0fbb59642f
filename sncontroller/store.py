"""What groups have learnt, in files, so that a controller that starts anew has it too.

Owns ``state_dir``: one file per group. A file that cannot be read or written is said in the log and
costs what was learnt, never service.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from sncontroller.core.lasting import Lasting, from_json, lasting, to_json
from sncontroller.core.state import Group

LOG = logging.getLogger("sncontroller")
KEEP_EVERY_S = 60.0


class Store:
    """The files of one controller's groups; without a directory, nothing is kept."""

    def __init__(self, directory: str | None, controller: str) -> None:
        """Use a directory that need not be there yet; controllers share it without harm."""
        self._directory = None if directory is None else Path(directory) / controller
        self._kept: dict[str, Lasting] = {}
        self._trouble = ""

    def recall(self, group: str) -> Lasting:
        """What was kept of a group; nothing where nothing was, or it cannot be read."""
        if self._directory is None:
            return Lasting()
        try:
            return from_json(self._path(self._directory, group).read_text())
        except FileNotFoundError:
            return Lasting()
        except (OSError, ValueError) as error:
            LOG.warning("%s: what it had learnt cannot be read: %s", group, error)
            return Lasting()

    def keep(self, groups: Iterable[Group]) -> None:
        """Write down what is new of each group; a file is replaced as a whole."""
        if self._directory is None:
            return
        trouble = ""
        for group in tuple(groups):
            known = lasting(group)
            try:
                self._keep(self._directory, group.spec.name, known)
            except OSError as error:
                trouble = f"cannot keep what groups learn: {error}"
        if trouble and trouble != self._trouble:
            LOG.warning(trouble)
        self._trouble = trouble

    def forget(self, group: str) -> None:
        """Nothing is kept of a group that was taken out of the configuration."""
        self._kept.pop(group, None)
        if self._directory is None:
            return
        try:
            self._path(self._directory, group).unlink(missing_ok=True)
        except OSError as error:
            LOG.warning("%s: what it had learnt cannot be removed: %s", group, error)

    def _keep(self, directory: Path, group: str, known: Lasting) -> None:
        if self._kept.get(group) == known:
            return
        directory.mkdir(parents=True, exist_ok=True)
        path = self._path(directory, group)
        written = path.with_suffix(".new")
        written.write_text(to_json(known))
        os.replace(written, path)
        self._kept[group] = known

    def _path(self, directory: Path, group: str) -> Path:
        return directory / f"{group}.json"
