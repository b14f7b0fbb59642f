"""The product under ``ryu-manager`` with a clock on it, for the control plane's figures.

app        the application that ryu-manager loads: the product's, and what passes by is noted
process    the same seen from outside: the process, and the conversation with it
"""
