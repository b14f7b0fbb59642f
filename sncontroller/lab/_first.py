"""The first process of a process namespace: takes note of the end of those whose parent has gone.

Run as ``python -m sncontroller.lab._first``; it prints a line when it is ready, and never ends.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress


def main() -> None:
    """Wait for children, for ever."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    print("ready", flush=True)
    while True:
        signal.sigwait({signal.SIGCHLD})
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


if __name__ == "__main__":
    main()
