"""One node's directory: made and removed with the node, never anyone else's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from sncontroller.hypervisors.base import PermanentError

MARK: Final = ".sncontroller-node"
LOG: Final = "service.log"
LOG_TAIL_LINES: Final = 5


class NodeDirectory:
    """``parent/name``, marked as ``owner``'s; without a parent there is none, and no log."""

    def __init__(self, parent: Path | None, name: str, owner: str) -> None:
        """Name the directory; nothing is touched yet."""
        self._own = None if parent is None else parent.absolute() / name
        self._owner = owner

    @property
    def path(self) -> str:
        """Where the service runs."""
        return "/" if self._own is None else str(self._own)

    @property
    def log(self) -> str:
        """Where the service's output goes."""
        return "/dev/null" if self._own is None else str(self._own / LOG)

    def log_tail(self) -> str:
        """The last lines of the service's output."""
        lines = Path(self.log).read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def make(self) -> None:
        """Ensure that the directory exists. Raises ``PermanentError`` if it is someone else's."""
        if self._own is None:
            return
        self._own.mkdir(parents=True, exist_ok=True)
        if not self._is_ours(self._own):
            raise PermanentError(f"directory {self._own} exists and is not ours: remove it")
        (self._own / MARK).write_text(self._owner)

    def remove(self) -> None:
        """Ensure that the directory is gone, if it is ours."""
        if self._own is not None and self._own.exists() and self._is_ours(self._own):
            shutil.rmtree(self._own)

    def _is_ours(self, directory: Path) -> bool:
        """One without a mark is ours when it is empty: its making was cut short."""
        mark = directory / MARK
        if mark.exists():
            return mark.read_text() in (self._owner, "")
        return not any(directory.iterdir())
