"""The demo's run: sets the stage, plays the scenario, and leaves nothing.

Owns the order of things and the record of what was seen. Whatever happens, an error or Ctrl-C at
any moment, everything that was begun is ended in reverse order.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from sncontroller.lab import guard
from sncontroller.lab.controller import Controller, Watch
from sncontroller.lab.crowd import Crowd
from sncontroller.lab.programs import LabError
from sncontroller.lab.report import Mark, Record
from sncontroller.lab.samples import Moment
from sncontroller.lab.scenario import Phase, Progress, Scenario, advance, orders
from sncontroller.lab.setting import BRIDGE, GROUP, Setting
from sncontroller.lab.stage import Entries, Stage
from sncontroller.lab.view import view

_TURN_S = 0.25
_COMMAND_WITHIN_S = 60


@dataclass(frozen=True, slots=True)
class Played:
    """What a run leaves: its record, and what was found on the bridge after it."""

    record: Record
    before: Entries
    after: Entries
    problems: tuple[str, ...]
    left: tuple[str, ...]
    """What there still was of secondaries, before anybody cleaned up."""
    versions: Mapping[str, str]
    """What the nodes ran on."""


@dataclass
class Play:
    """One run of the demo."""

    setting: Setting
    scenario: Scenario
    console: Console
    keep: bool = False
    """Stay at the end until Ctrl-C, to look around."""
    marks: list[Mark] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def run(self) -> Played:
        """Play it. Raises ``LabError``; ``KeyboardInterrupt`` when it is told to end."""
        self.console.print(f"a switch, the clients, the primary: {self.setting.hypervisor} ...")
        with ExitStack() as stack:
            self.stage = stack.enter_context(Stage(self.setting))
            stack.callback(self.stage.remove_secondaries)
            endpoints, configuration = self.setting.endpoints, self.setting.configuration
            log = self.setting.output / "controller.log"
            self.controller = Controller(endpoints, configuration, log)
            stack.callback(self.controller.stop)
            self.watch = Watch(endpoints, GROUP)
            stack.callback(self.watch.stop)
            self.crowd = self._clients()
            stack.callback(self.crowd.stop)
            stack.callback(guard.ignore)  # from here on, nothing interrupts the clean-up
            before = self.stage.entries()
            record = self._play()
            self._look_into(log)
            return Played(
                record,
                before,
                self.stage.entries(),
                tuple(self.problems),
                self.stage.left(),
                self.stage.machines.versions(),
            )

    def _clients(self) -> Crowd:
        command = (sys.executable, "-m", "sncontroller.lab.clients")
        argv = tuple(self.stage.clients.argv(*command))
        return Crowd(argv, self.setting.plan(), self.setting.output / "clients.log")

    def _play(self) -> Record:
        self.began_s = time.time()
        moments: list[Moment] = []
        progress = Progress(Phase.ALONE, self.began_s)
        with view(self.began_s, self.console) as shown:
            while progress.phase is not Phase.DONE:
                try:
                    progress = self._turn(progress, moments)
                    shown.show(moments[-1], self._offered(moments[-1]), self.watch.events)
                    time.sleep(_TURN_S)
                except KeyboardInterrupt:
                    if not (self.keep and progress.phase is Phase.QUIET):
                        raise
                    self.keep = False
                    guard.listen()
        self.crowd.finish()
        return Record(
            self.scenario,
            self.began_s,
            tuple(moments),
            self.crowd.samples,
            self.watch.events,
            tuple(self.marks),
            progress.late,
        )

    def _turn(self, progress: Progress, moments: list[Moment]) -> Progress:
        """One look at everything, and what follows from it."""
        now = time.time()
        told = orders(self.scenario, progress, now)
        fresh = self.crowd.fresh()
        traffic = fresh[-1] if fresh else None
        moment = Moment(now, progress.phase.value, told.users, traffic, self.watch.group)
        moments.append(moment)
        self.crowd.order(told)
        self.controller.expect_running()
        if self.keep and progress.phase is Phase.QUIET:
            return progress
        following = advance(self.scenario, progress, moment)
        if following.phase is not progress.phase:
            self._enter(following.phase)
        return replace(following, late=tuple(map(self._explained, following.late)))

    def _explained(self, late: str) -> str:
        if not late.endswith("(no status)"):
            return late
        return f"{late}, last answer: {self.watch.trouble}"

    def _offered(self, moment: Moment) -> float:
        capacity = self.setting.service.answers_per_s
        return moment.offered_users / self.scenario.one_node_users * capacity

    def _enter(self, phase: Phase) -> None:
        """What the demo itself does when a phase begins."""
        actions: dict[Phase, Callable[[], None]] = {
            Phase.ATTACH: self._attach,
            Phase.KILLED: self._kill,
            Phase.RESUME: self._resume,
            Phase.QUIET: self._invite,
            Phase.DETACHED: self._detach,
        }
        if phase in actions:
            actions[phase]()

    def _attach(self) -> None:
        began = time.time()
        self.controller.start()
        while self.watch.group is None and time.time() < began + _COMMAND_WITHIN_S:
            self.controller.expect_running()
            time.sleep(0.1)
        said = self._command("attach", BRIDGE, "--controller", self.setting.endpoints.target)
        self._mark("attached", said, began)

    def _kill(self) -> None:
        self.controller.kill()
        self._mark("controller_killed", "with SIGKILL, in the middle of the traffic")

    def _resume(self) -> None:
        self.controller.start()
        self._mark("controller_started", "it finds its nodes and entries again")

    def _detach(self) -> None:
        began = time.time()
        try:
            said = self._command("detach", BRIDGE)
        except LabError as error:
            self.problems.append(str(error))
            said = self._command("detach", BRIDGE, "--now")
        self._mark("detached", said, began)
        if status := self.controller.stop():
            self.problems.append(f"the controller ended with status {status}")

    def _invite(self) -> None:
        if self.keep:
            self.console.print(self.stage.invitation(), markup=False, highlight=False)

    def _command(self, *arguments: str) -> str:
        """What one of sncontroller's commands says, run as an operator would."""
        program = str(Path(sys.executable).parent / "sncontroller")
        done = subprocess.run(
            [program, *arguments],
            env=self.stage.ovs.environment,
            capture_output=True,
            text=True,
            timeout=_COMMAND_WITHIN_S,
        )
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise LabError(f"sncontroller {' '.join(arguments)}: {said}")
        return done.stdout.strip()

    def _mark(self, what: str, why: str, began_s: float | None = None) -> None:
        now = time.time()
        took_s = None if began_s is None else now - began_s
        self.marks.append(Mark(began_s or now, what, why, took_s=took_s))

    def _look_into(self, log: Path) -> None:
        """An error in the controller that nobody noticed is one all the same."""
        text = log.read_text(errors="replace")
        if found := text.count("Traceback (most recent call last)"):
            self.problems.append(f"{found} tracebacks in {log}")
