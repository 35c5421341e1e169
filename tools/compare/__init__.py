"""A grid of configurations x seeds: run cell by cell, evaluated, and laid out as one table."""
