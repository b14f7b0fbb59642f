"""Compiled tables on a real switch, with real traffic."""
