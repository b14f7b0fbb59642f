"""The configuration file: YAML to checked values, with every problem named at once.

    problems    what a ``ConfigError`` carries
    text        YAML to plain values that know their lines
    wording     what pydantic found, in the operator's words
    checks      what must hold between sections and between groups
    parsing     the way through all of these
    schema      the same rules as a JSON Schema, for editors
    changes     what differs between two configurations

No run-time state, no switch; reading a file is all it does.
"""

from sncontroller.config.changes import Differences, differences
from sncontroller.config.parsing import load, parse
from sncontroller.config.problems import ConfigError, Problem
from sncontroller.config.schema import schema
from sncontroller.core.model import Config

__all__ = [
    "Config",
    "ConfigError",
    "Differences",
    "Problem",
    "differences",
    "load",
    "parse",
    "schema",
]
