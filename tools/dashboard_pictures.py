"""Pictures for docs/dashboards: figures of the pages of real runs, a healthy one and sick ones.

    python -m tools.sick_runs RUNS
    python -m tools.dashboard_pictures RUNS docs/dashboards

It needs Chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from tools.browser import Browser

FIGURES = {
    "healthy": ("score-densities", "embedding-health", "false-negatives", "gallery"),
    "loss-start": ("score-densities",),
    "collapse": ("score-densities", "embedding-health"),
    "loss-start-high": ("gradient-shares",),
    "temperature": ("gradient-shares",),
    "positives-among-negatives": ("hardness-profile",),
    "false-negatives": ("false-negatives",),
}
COLOURS = 128


def main(arguments: list[str]) -> None:
    runs, to = map(Path, arguments)
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        raise SystemExit("no browser to draw pages in: install chromium")
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, Browser(program, Path(scratch) / "profile", 1120) as browser:
        for name, figures in FIGURES.items():
            page = Path(scratch) / f"{name}.html"
            page.write_text(build_page(read_runs([RunFolder.existing(runs / name)])), encoding="utf-8")
            browser.open(page.as_uri())
            browser.until("document.documentElement.dataset.drawn", 60)
            browser.value(
                "document.head.insertAdjacentHTML('beforeend', '<style>.downloads,.bar{display:none}</style>')"
            )
            for figure in figures:
                path = to / f"{name}-{figure}.png"
                browser.picture(path, of=f"#{figure}")
                with Image.open(path) as picture:
                    few = picture.convert("RGB").quantize(COLOURS)  # flat colours: a third of the bytes
                few.save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
