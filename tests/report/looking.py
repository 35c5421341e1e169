"""What a browser shows of a page, and saves of it, taken apart."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.harness.browser import Browser

PANEL = "panels.find(each => each.scaled)"
"""The first run's histogram."""


def drawn(browser: Browser) -> dict[str, int]:
    """Marks by chart; of a chart that is there for each run, the fewest."""
    return dict(
        browser.value(
            "[...document.querySelectorAll('[data-chart]')].map(e => [e.dataset.chart, Number(e.dataset.marks)])"
            ".sort((a, b) => b[1] - a[1])"
        )
    )


def check(browser: Browser) -> None:
    """Nothing said, nothing asked for, and every picture there."""
    assert browser.said == []
    assert browser.asked[1:] == [] or all(asked.startswith("data:") for asked in browser.asked[1:])
    assert browser.asked[0].startswith("file:")
    pictures = browser.value("[...document.images].map(i => i.complete && i.naturalWidth > 0)")
    assert len(pictures) > 30
    assert all(pictures)


def histograms(browser: Browser) -> dict[str, dict[float, float]]:
    """The drawn densities by kind of pairs and lower edge; those at the floor are left out."""
    floor = browser.value(f"{PANEL}.view.scale('y').domain()[0]")
    rows = browser.value(f"{PANEL}.view.data('histogram').map(e => [e.pairs, e.low, e.density])")
    found: dict[str, dict[float, float]] = {}
    for kind, low, density in rows:
        if density > floor:
            found.setdefault(kind, {})[low] = round(density, 9)
    return found


def densities(header: dict[str, Any], row: dict[str, Any], kinds: list[str]) -> dict[str, dict[float, float]]:
    """The same of a row's counts."""
    edges = header["edges"]
    found: dict[str, dict[float, float]] = {}
    for kind in kinds:
        counts = row[kind]["counts"]
        found[kind] = {
            edges[place]: round(count / sum(counts) / (edges[place + 1] - edges[place]), 9)
            for place, count in enumerate(counts)
            if count
        }
    return found


def downloaded(browser: Browser, folder: Path, figure: str) -> tuple[ElementTree.Element, list[list[str]]]:
    """A figure's drawing and its numbers' rows, as its buttons save them when Enter is pressed on them."""
    for kind in ("svg", "csv"):
        time.sleep(0.3)  # as a hand would: of many downloads within a second Chromium drops some
        browser.value(f"document.querySelector('#{figure} [data-download={kind}]').focus()")
        browser.press("Enter")
    for kind in ("svg", "csv"):
        wait_for(folder / f"{figure}.{kind}")
    drawing = ElementTree.parse(folder / f"{figure}.svg").getroot()
    with (folder / f"{figure}.csv").open(newline="", encoding="utf-8") as file:
        return drawing, list(csv.reader(file, strict=True))


def wait_for(path: Path, seconds: float = 60) -> None:
    """A download has its name once it is whole."""
    last = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < last, f"{path.name} never came"
        time.sleep(0.05)
