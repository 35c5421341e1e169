"""Figures of the report: one function per figure, one file per section.

A function takes the runs and returns a `Figure`, or a `Missing` that says which data it needs.
"""
