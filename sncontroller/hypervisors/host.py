"""The process in which hypervisor plugins run, apart from the controller.

Owns plugin instances and a thread per call under way. It speaks lines of JSON: calls on standard
input, a group's first one with its plugin's section; results on standard output. Plugins may block,
use C libraries or crash here without touching the controller; what they, or programs that they
start, read or print is not in this conversation. It ends with its standard input, and the kernel
ends it when the controller dies.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import IO, Any

from sncontroller.core.hypervisor import NodeInfo, NodeRequest, Owner
from sncontroller.hypervisors import base

CALLS_AT_ONCE = 32
_PR_SET_PDEATHSIG = 1


class Host:
    """The plugins by zone, and the calls to them."""

    def __init__(self) -> None:
        self._sections: dict[int, Mapping[str, Any]] = {}
        self._plugins: dict[int, tuple[Mapping[str, Any], base.Hypervisor]] = {}
        """With the section that each was made from."""
        self._lock = threading.Lock()

    def note(self, line: Mapping[str, Any]) -> None:
        """Remember the section of a group's plugin, if the line has one; in the lines' order."""
        if "plugin" in line:
            self._sections[line["zone"]] = line

    def answer(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one call: the result that goes back."""
        began = time.monotonic()
        result: dict[str, Any] = {"nodes": [], "error": None, "permanent": False}
        try:
            result["nodes"] = [_as_json(info) for info in self._call(line)]
        except base.TransientError as error:
            result["error"] = str(error)
        except base.PermanentError as error:
            result.update(error=str(error), permanent=True)
        except (Exception, SystemExit) as error:  # a plugin's bug must not end the others' calls
            result["error"] = f"unexpected {type(error).__name__}: {error}"
        return {**result, "id": line["id"], "took_s": time.monotonic() - began}

    def _call(self, line: Mapping[str, Any]) -> tuple[NodeInfo, ...]:
        plugin = self._plugin(line)
        match line["call"]:
            case "list":
                return plugin.list_nodes()
            case "stop":
                plugin.stop_node(line["name"])
                return ()
            case _:
                request = {**line["request"], "addresses": tuple(line["request"]["addresses"])}
                return (plugin.start_node(NodeRequest(**request)),)

    def _plugin(self, line: Mapping[str, Any]) -> base.Hypervisor:
        """The group's plugin; made when it is first needed, and again when its section changed."""
        zone = line["zone"]
        with self._lock:
            section = self._sections[zone]
            if zone not in self._plugins or self._plugins[zone][0] is not section:
                self._plugins[zone] = section, _made(section)
            return self._plugins[zone][1]


def _made(section: Mapping[str, Any]) -> base.Hypervisor:
    try:
        kind = base.load(section["plugin"])
    except base.PluginError as error:
        raise base.PermanentError(str(error)) from error
    config = kind.Config.model_validate(section["config"])
    return kind(config, Owner(**section["owner"]))


def _as_json(info: NodeInfo) -> dict[str, Any]:
    return {**asdict(info), "status": info.status.value}


def main() -> None:
    """Answer calls until standard input ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's; it ends our input
    calls = _withdrawn(sys.stdin, os.open(os.devnull, os.O_RDONLY))
    answers = _withdrawn(sys.stdout, sys.stderr.fileno())
    sys.stdout = sys.stderr
    host, lock = Host(), threading.Lock()
    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        for text in calls:
            line = json.loads(text)
            host.note(line)
            pool.submit(_serve, host, line, answers, lock)


def _withdrawn(stream: IO[Any], instead: int) -> IO[Any]:
    """The stream under a number that no other program inherits; ``instead`` takes its place."""
    own = os.fdopen(os.dup(stream.fileno()), stream.mode)
    os.dup2(instead, stream.fileno())
    return own


def _serve(host: Host, line: Mapping[str, Any], answers: IO[Any], lock: threading.Lock) -> None:
    answer = json.dumps(host.answer(line), default=str)
    with lock:
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main()
