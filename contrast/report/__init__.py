"""HTML report: one self-contained page from the files of one or several run folders.

The report reads files only: it imports neither model code nor torch.
"""

from contrast.report.page import Around, build_page, read_runs

__all__ = ["Around", "build_page", "read_runs"]
