"""A child process of the demo: started with its end in mind.

Owns starting, ending and the log of one process. A child has a session of its own, so that Ctrl-C
reaches the demo alone and the demo ends its children in order; the kernel ends a child whose
parent is gone.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sncontroller.lab.programs import LabError, dies_with_parent, last_lines


class Child:
    """One process, running from its making on.

    Make it in the main thread: the kernel's parent-death signal follows the thread.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        pipes: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``pipes`` connects standard input and output to ``process``; else both go to the log."""
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as written:
            self.process = subprocess.Popen(
                [*dies_with_parent(), *command],
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else written,
                stderr=written,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def expect_running(self) -> None:
        """Raises ``LabError`` with its last words when it has ended."""
        if not self.running:
            raise LabError(
                f"{self.name} ended with status {self.process.returncode}; its last words:\n"
                f"{self.last_words()}"
            )

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        return last_lines(self.log, lines)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self, patience_s: float = 10.0) -> int:
        """Ask it to end, and kill it when it does not; its status."""
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.returncode
