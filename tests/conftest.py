"""What holds for every test: hypothesis does not judge by time and keeps its examples in build/."""

from pathlib import Path

from hypothesis import configuration, settings

configuration.set_hypothesis_home_dir(Path(__file__).parents[1] / "build" / "hypothesis")
settings.register_profile("sncontroller", deadline=None)
settings.load_profile("sncontroller")
