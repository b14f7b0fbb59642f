"""The benchmark's side of the clients: start them, stop them, and what their notes say.

Owns the process of ``bench.visitor`` and the figures made from its notes. All times are seconds
since the epoch, of this machine's one clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, Self

from bench import REPOSITORY
from sncontroller.lab.net import Host
from sncontroller.lab.programs import LabError

_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Visit:
    """One short connection."""

    client: int
    began_s: float
    ended_s: float
    node: str
    error: str


@dataclass(frozen=True, slots=True)
class Held:
    """One long connection."""

    node: str
    answers: int
    moved_s: float | None
    broken_s: float | None
    error: str


@dataclass(frozen=True, slots=True)
class Seen:
    """All notes of one run of the clients."""

    visits: tuple[Visit, ...]
    held: tuple[Held, ...]

    @property
    def failed(self) -> tuple[Visit, ...]:
        """Visits without an answer."""
        return tuple(visit for visit in self.visits if visit.error)

    def held_broken(self) -> int:
        """Held connections that ended before their time."""
        return sum(each.broken_s is not None for each in self.held)

    def held_moved(self) -> int:
        """Held connections that were answered by another node than at first."""
        return sum(each.moved_s is not None for each in self.held)

    def errors(self) -> dict[str, int]:
        """The kinds of failures, and how often."""
        broken = [each.error for each in self.held if each.error]
        return dict(Counter([visit.error for visit in self.failed] + broken))

    def answers_of(self, node: str, since_s: float) -> int:
        """Visits from then on that this node answered."""
        return sum(v.node == node and v.began_s >= since_s for v in self.visits)

    def first_answer_s(self, node: str) -> float | None:
        """When this node first answered a visit."""
        return min((v.ended_s for v in self.visits if v.node == node), default=None)

    def fault(self, at_s: float, until_s: float) -> dict[str, Any]:
        """What a fault at that time cost; see ``bench.disruption`` for the words."""
        ended = [v for v in self.visits if v.ended_s >= at_s and v.began_s < until_s]
        lost = [v for v in ended if v.error]
        return {
            "requests": len(ended),
            "lost": len(lost),
            "last_lost_s": max((v.began_s - at_s for v in lost), default=0.0),
            "first_success_s": _first_success_s(ended, at_s),
            "errors": dict(Counter(v.error for v in lost)),
        }


def _first_success_s(visits: list[Visit], at_s: float) -> float | None:
    """How long the unluckiest client went without an answer; ``None`` if it never got one."""
    by_client: dict[int, list[Visit]] = defaultdict(list)
    for visit in sorted(visits, key=lambda v: v.began_s):
        by_client[visit.client].append(visit)
    longest = 0.0
    for own in by_client.values():
        lost_at = next((v.began_s for v in own if v.error), None)
        if lost_at is None:
            continue
        good = next((v.ended_s for v in own if not v.error and v.began_s > lost_at), None)
        if good is None:
            return None
        longest = max(longest, good - at_s)
    return longest


class Clients:
    """A running ``bench.visitor`` on a host; make it in the main thread."""

    def __init__(self, host: Host, **plan: Any) -> None:
        """Return when its held connections are open. Raises ``LabError``."""
        self._process: subprocess.Popen[str] = host.popen(
            *(sys.executable, "-m", "bench.visitor", json.dumps(plan)),
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise LabError(f"the clients failed: {self._complaint()}")
        self.ready_s = time.time()
        """When the first visits began."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def finish(self) -> Seen:
        """Let all of them end; what they noted. Raises ``LabError``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        said = self._process.stdout.readline()
        if not said:
            raise LabError(f"the clients failed: {self._complaint()}")
        self._process.wait(_PATIENCE_S)
        self._close()
        notes = json.loads(said)
        visits = tuple(Visit(*raw) for raw in notes["visits"])
        return Seen(visits, tuple(Held(**raw) for raw in notes["held"]))

    def _complaint(self) -> str:
        self._process.kill()
        assert self._process.stderr is not None
        return self._process.stderr.read()[-2000:]

    def _close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(_PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()
