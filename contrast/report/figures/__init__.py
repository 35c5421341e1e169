"""The figures: one file each, a function from runs to a `Figure`, or to a `Missing` that says what it needs."""
