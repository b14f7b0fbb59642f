"""``sncontroller run``'s second half: Ryu's manager with our application and readable logs.

A module of its own because eventlet must be prepared before anything else is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sncontroller.ryu_manager import main as manager
from sncontroller.ryu_manager import prepare_eventlet

APPLICATION = "sncontroller.app"
_LINE = "%(asctime)s %(levelname)s %(message)s"


def main(arguments: Sequence[str]) -> int:
    """Run Ryu's manager with these options and our application; the exit code."""
    prepare_eventlet()
    import logging

    verbose = "--verbose" in arguments
    ours = logging.getLogger("sncontroller")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_LINE))
    ours.addHandler(handler)
    ours.propagate = False
    ours.setLevel(logging.DEBUG if verbose else logging.INFO)
    level = logging.INFO if verbose else logging.WARNING
    options = [argument for argument in arguments if argument != "--verbose"]
    return manager([*options, "--default-log-level", str(level), APPLICATION])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
