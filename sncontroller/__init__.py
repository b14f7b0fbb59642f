"""Elastic service node groups for Open vSwitch, as an application for Ryu.

Owns the version number and nothing else: importing the package must stay cheap and free of side
effects, because the ``ryu-manager`` command imports it before eventlet has patched anything.
"""

__version__ = "0.1.0"
