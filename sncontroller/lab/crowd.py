"""The demo's side of the clients' process: orders go in, samples come out.

Owns that process and the thread that reads what it reports.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from sncontroller.lab.child import Child
from sncontroller.lab.clients import Orders, Plan
from sncontroller.lab.programs import LabError
from sncontroller.lab.samples import Traffic


class Crowd:
    """The clients, at work from the making on."""

    def __init__(self, command: tuple[str, ...], plan: Plan, log: Path) -> None:
        """``command`` starts ``sncontroller.lab.clients`` where the clients are to be."""
        self._child = Child("clients", (*command, plan.model_dump_json()), log, pipes=True)
        self._samples: list[Traffic] = []
        self._fresh: list[Traffic] = []
        self._lock = threading.Lock()
        self._sent: Orders | None = None
        self._patience_s = 3 * plan.timeout_s
        self._reader = threading.Thread(target=self._read, name="clients", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id of the clients."""
        return self._child.pid

    @property
    def samples(self) -> tuple[Traffic, ...]:
        """All samples so far, oldest first."""
        with self._lock:
            return tuple(self._samples)

    def fresh(self) -> tuple[Traffic, ...]:
        """The samples that came since the last call."""
        with self._lock:
            fresh, self._fresh = self._fresh, []
        return tuple(fresh)

    def order(self, orders: Orders) -> None:
        """Tell the clients, if it is news. Raises ``LabError`` when they are gone."""
        if orders == self._sent:
            return
        assert self._child.process.stdin is not None
        try:
            self._child.process.stdin.write(orders.model_dump_json().encode() + b"\n")
            self._child.process.stdin.flush()
        except OSError as error:
            self._child.expect_running()
            raise LabError(f"the clients do not listen: {error}") from error
        self._sent = orders

    def finish(self) -> None:
        """Let all connections end, and the process with them."""
        self.order(Orders(stop=True))
        self._reader.join(self._patience_s)
        if self._child.stop() != 0:
            raise LabError(f"the clients failed; their last words:\n{self._child.last_words()}")

    def stop(self) -> None:
        """Ensure that the process is gone, whatever its connections do."""
        self._child.kill()
        self._reader.join()
        for pipe in (self._child.process.stdin, self._child.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _read(self) -> None:
        assert self._child.process.stdout is not None
        for line in self._child.process.stdout:
            sample = Traffic.model_validate_json(line)
            with self._lock:
                self._samples.append(sample)
                self._fresh.append(sample)
