"""One self-contained HTML page from the files of one or several run folders; no model code, no torch."""

from contrast.report.page import Around, build_page, read_runs

__all__ = ["Around", "build_page", "read_runs"]
