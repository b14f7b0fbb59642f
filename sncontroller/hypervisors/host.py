"""The process in which hypervisor plugins run, apart from the controller.

Owns plugin instances and a thread per call under way. It speaks lines of JSON: a first line with
the groups' plugins on standard input, then calls; results on standard output. Plugins may block,
use C libraries or crash here without touching the controller. It ends with its standard input, and
the kernel ends it when the controller dies.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from sncontroller.core.hypervisor import NodeInfo, NodeRequest, Owner
from sncontroller.hypervisors import base

CALLS_AT_ONCE = 32
_PR_SET_PDEATHSIG = 1


class Host:
    """The plugins by zone, and the calls to them."""

    def __init__(self) -> None:
        self._plugins: dict[int, base.Hypervisor] = {}
        self._lock = threading.Lock()

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
        except Exception as error:  # a plugin's bug must not end the others' calls
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
        """The group's plugin; made at its first call, and again when its section changed."""
        with self._lock:
            if "plugin" in line:
                try:
                    kind = base.load(line["plugin"])
                except base.PluginError as error:
                    raise base.PermanentError(str(error)) from error
                config = kind.Config.model_validate(line["config"])
                self._plugins[line["zone"]] = kind(config, Owner(**line["owner"]))
            return self._plugins[line["zone"]]


def _as_json(info: NodeInfo) -> dict[str, Any]:
    return {**asdict(info), "status": info.status.value}


def main() -> None:
    """Answer calls until standard input ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's; it ends our input
    host, lock = Host(), threading.Lock()
    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        for text in sys.stdin:
            pool.submit(_serve, host, json.loads(text), lock)


def _serve(host: Host, line: Mapping[str, Any], lock: threading.Lock) -> None:
    answer = json.dumps(host.answer(line))
    with lock:
        print(answer, flush=True)


if __name__ == "__main__":
    main()
