"""A whole lab on one machine: a private Open vSwitch, hosts and nodes in network namespaces.

Owns everything the demo and the tests start and the way it is stopped again. The controller itself
never imports from here; the ``netns`` plugin borrows its namespaces.
"""
