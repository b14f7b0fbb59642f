"""The decisions: pure functions and frozen values.

Nothing in this package reads a clock, opens a socket, draws a random number, logs, or imports Ryu,
eventlet or requests; ``now`` and ``seed`` are parameters. Events come in, values go out.
"""
