"""What an operator is told when something cannot be done: one line, with the mend in it."""

from __future__ import annotations


class OperatorError(Exception):
    """Something an operator has to mend first: no Open vSwitch, no bridge, no permission."""


class RefusedError(Exception):
    """What was asked for is not done in the present state; nothing was changed."""
