"""Code that makes parts of the documentation: `docs.make`."""
