"""The page in a browser: every figure drawn, the slider's numbers right, and nothing said on the console."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from contrast.records import read_rows
from tests.browsing import browser_program
from tests.report.reading import Page

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=20000 --dump-dom"
)
Open = Callable[[str, str], Page]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Opens a page at an address fragment and gives the document as the browser left it."""
    browser = browser_program()

    def open_page(html: str, fragment: str) -> Page:
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        command = [browser, *FLAGS.split(), f"--user-data-dir={tmp_path / 'profile'}"]
        address = f"{(tmp_path / 'page.html').as_uri()}{fragment}"
        done = subprocess.run([*command, address], capture_output=True, text=True, timeout=120, check=True)
        said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        assert not said, "\n".join(said)
        return Page(done.stdout)

    return open_page


def marks(page: Page) -> dict[str, list[int]]:
    """Marks that the browser drew, by chart; one number for each run."""
    drawn: dict[str, list[int]] = {}
    for part in page.named("div"):
        if part.get("data-chart"):
            drawn.setdefault(part["data-chart"] or "", []).append(int(part.get("data-marks") or 0))
    return drawn


def occupied(run: Path, side: str) -> int:
    rows = read_rows(run / "scores.jsonl")[1:]
    return sum(count > 0 for row in rows for count in row[side]["counts"])


def test_every_figure_of_a_run_is_drawn(opened: Open, page: str, run: Path) -> None:
    found = opened(page, "")
    drawn = marks(found)
    assert set(drawn) == {"positive", "negative", "histogram", "gap", "d-prime", "loss", "accuracy", "rate"}
    assert all(count > 80 for counts in drawn.values() for count in counts), drawn
    for side in ("positive", "negative"):
        assert drawn[side][0] >= occupied(run, side), "a cell for every bin that holds a pair"
    assert "step 19,999" in found.text, "the slider starts at the last snapshot"


def test_the_address_chooses_step_scale_and_theme(opened: Open, page_of_two: str, run: Path, other_run: Path) -> None:
    found = opened(page_of_two, "#step=4020&scale=log&theme=dark")
    assert all(len(counts) == 2 for chart, counts in marks(found).items() if chart in ("positive", "histogram"))
    assert found.named("html")[0]["data-theme"] == "dark"
    for path in (run, other_run):
        rows = read_rows(path / "scores.jsonl")[1:]
        steps = sorted({row["step"] for each in (run, other_run) for row in read_rows(each / "scores.jsonl")[1:]})
        nearest = min(steps, key=lambda step: abs(step - 4020))
        shown = [row for row in rows if row["step"] <= nearest][-1]
        expected = rf"positives {shown['positive']['mean']:.3f} ± {shown['positive']['std']:.3f}"
        assert re.search(re.escape(expected), found.text), "each run shows its last snapshot up to the chosen step"
