"""What holds for every test: no judging by time, and signals as they are in a terminal."""

import signal
from pathlib import Path

from hypothesis import configuration, settings

configuration.set_hypothesis_home_dir(Path(__file__).parents[1] / "build" / "hypothesis")
settings.register_profile("sncontroller", deadline=None)
settings.load_profile("sncontroller")

# a shell's background job ignores these, and so would every process that a test starts
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
