"""Files that commands read, each odd or damaged somewhere, and commands that are interrupted."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.harness.fuzz.arrays import arrays, published, series_files
from tests.harness.fuzz.case import Case
from tests.harness.fuzz.images import images
from tests.harness.fuzz.interruptions import interruptions
from tests.harness.fuzz.runs import checkpoints, finished_run, run_folders
from tests.harness.fuzz.weights import weights

__all__ = ["files"]


def files() -> st.SearchStrategy[Case]:
    """A file of any sort; run folders and images most often."""
    finished_run()
    return st.one_of(
        *(images(), images(), arrays(), arrays(), series_files(), published(), weights()),
        *(checkpoints(), checkpoints(), run_folders(), run_folders(), run_folders()),
        interruptions(),
    )
