"""``python -m sncontroller.cli``."""

from sncontroller.cli import main

main(prog_name="sncontroller")
