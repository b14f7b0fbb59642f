"""The same decisions without a switch: a trace of load against a scaling policy.

* ``traces``: a day of demand, generated or read from CSV
* ``tracker``: the 25-line target tracker that every policy is compared with
* ``fleet``: nodes that boot, serve and drain, second by second
* ``simulation``: a trace through a policy: violations, node-hours, the ratio to the optimum
* ``study``: traces times policies, each with several seeds and phases
* ``report``: tables and JSON
* ``plot``: a picture per trace
* ``command``: the command line
"""

from sncontroller.simulate.simulation import Result, ScaleEvent, Setting, run
from sncontroller.simulate.traces import Noise, Trace, from_csv, generated

__all__ = ["Noise", "Result", "ScaleEvent", "Setting", "Trace", "from_csv", "generated", "run"]
