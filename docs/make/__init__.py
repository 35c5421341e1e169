"""Figures and pictures of the documentation, and the check that its commands and snippets run."""
