"""Pictures for the docs: figures of the pages of real runs, well and sick, and the list of the dashboard.

    python -m tests.harness.sick_runs RUNS/sick
    python -m tests.harness.real_runs RUNS/real
    contrast pretrain --config configs/demo.yaml --run RUNS/demo
    the runs of docs/tutorial.md in RUNS/tutorial
    python -m docs.make.dashboard_pictures RUNS docs [PICTURE...]

It needs Chromium.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from tests.harness.browser import Browser, find_browser

PLAIN = "<style>.downloads,.bar{display:none}</style>"
COLOURS = 256
MOST_BYTES = 300 * 1024


@dataclass(frozen=True)
class Picture:
    """A figure as a page shows it.

    Args:
        path: below the docs' folder.
        figure: its name.
        runs: of the page.
        width: the window's, in pixels.
        theme: light or dark.
        address: what is chosen on the page.
    """

    path: str
    figure: str
    runs: tuple[str, ...]
    width: int = 1120
    theme: str = "light"
    address: str = ""


def _of(run: str, *figures: str) -> list[Picture]:
    name = run.rpartition("/")[2]
    return [Picture(f"dashboards/{name}-{figure}.png", figure, (run,)) for figure in figures]


MIXES = "#scale=log&negatives=hardest+pair_mix+query_mix"
PICTURES = [
    Picture("images/report.png", "score-densities", ("demo",)),
    Picture("images/tutorial/scores.png", "score-densities", ("tutorial/infonce",)),
    Picture("images/tutorial/hardness.png", "hardness-profile", ("tutorial/infonce", "tutorial/hinge")),
    Picture("images/tutorial/false_negatives.png", "false-negatives", ("tutorial/infonce", "tutorial/hinge")),
    *_of("sick/healthy", "score-densities", "embedding-health", "false-negatives", "gallery"),
    *_of("sick/loss-start", "score-densities"),
    *_of("sick/collapse", "score-densities", "embedding-health"),
    *_of("sick/loss-start-high", "gradient-shares"),
    *_of("sick/temperature", "gradient-shares"),
    *_of("sick/positives-among-negatives", "hardness-profile"),
    *_of("sick/false-negatives", "false-negatives"),
    *_of("real/mochi", "false-negatives"),
    *_of("real/dbpm", "gallery"),
    *_of("real/amcl", "temperatures"),
    Picture("dashboards/mochi-dark.png", "score-densities", ("real/mochi",), theme="dark", address=MIXES),
    Picture("dashboards/mochi-narrow.png", "score-densities", ("real/mochi",), 390, "dark", MIXES),
    Picture("dashboards/compared-hardness-profile.png", "hardness-profile", ("sick/healthy", "sick/temperature")),
]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.make.dashboard_pictures", allow_abbrev=False)
    parser.add_argument("runs", type=Path, metavar="RUNS")
    parser.add_argument("to", type=Path, metavar="DOCS")
    parser.add_argument("names", nargs="*", metavar="PICTURE", help="file names; all where there are none")
    given = parser.parse_args(arguments)
    program = find_browser()
    if program is None:
        raise SystemExit("no browser to draw pages in: install chromium")
    scratch_folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # the browser writes until it is gone
    with scratch_folder as scratch, Browser(program, Path(scratch) / "profile", 1160) as browser:
        last = None
        for picture in PICTURES:
            if given.names and Path(picture.path).name not in given.names:
                continue
            kind = (picture.runs, picture.width, picture.theme, picture.address)
            if kind != last:
                _open(browser, picture, given.runs, Path(scratch) / "page.html")
            last = kind
            browser.picture(given.to / picture.path, of=f"#{picture.figure}")
            _lighten(given.to / picture.path)
        if not given.names or "dashboard.png" in given.names:
            _dashboard(browser, given.runs, given.to / "images/dashboard.png")


def _open(browser: Browser, picture: Picture, runs: Path, page: Path) -> None:
    content = build_page(read_runs([RunFolder.existing(runs / name) for name in picture.runs]))
    page.write_text(content, encoding="utf-8")
    browser.resize(picture.width, 900)
    browser.prefer(picture.theme)
    browser.open("about:blank")
    browser.open(page.as_uri() + picture.address)
    browser.until("document.documentElement.dataset.drawn", 300)
    browser.value(f"document.head.insertAdjacentHTML('beforeend', '{PLAIN}')")


def _dashboard(browser: Browser, runs: Path, path: Path) -> None:
    """The list, with two runs ticked."""
    command = [sys.executable, "-m", "contrast", "dashboard", runs.name, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=runs.absolute().parent)
    try:
        assert process.stdout is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address is not None
        browser.resize(1160, 900)
        browser.prefer("light")
        browser.open(address[0])
        browser.until("/( ago|just now)$/.test(document.querySelector('time')?.textContent)")
        for name in ("demo", "sick/loss-start"):
            browser.value(f"document.querySelector(`[value='{name}']`)?.click()")
        browser.picture(path)
        _lighten(path)
    finally:
        process.terminate()
        process.wait()


def _lighten(path: Path) -> None:
    """As many colours as fit, chosen for the least error of any pixel first: else the rare ones of legends go."""
    with Image.open(path) as picture:
        whole = picture.convert("RGB")
    colours = COLOURS
    while path.stat().st_size > MOST_BYTES or colours == COLOURS:
        few = whole.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
        colours //= 2


if __name__ == "__main__":
    main(sys.argv[1:])
