"""The figures of docs/methods, drawn from what the package computes: one file a figure, each with a `draw`."""
