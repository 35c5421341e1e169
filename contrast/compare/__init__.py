"""Comparison of a grid of configurations x seeds: its cells, the processes that run them, and its table.

`contrast.commands.compare` is the command. The modules of this package know no configuration and train nothing.
"""
