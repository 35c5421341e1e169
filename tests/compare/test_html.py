"""The page of a comparison: what it shows, and that it shows it in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from contrast.commands.compare import read_grid
from contrast.compare.html import Scale, build_page
from contrast.compare.markdown import terminal_table
from contrast.compare.table import summarise
from tests.browsing import browser_program
from tests.compare.grids import made_up, write_grid
from tests.harness.browser import Browser

HOSTILE = "<img src=x onerror=alert(1)>"


def table_of(folder: Path, **keys: Any) -> dict[str, Any]:
    """Three rows, of which one failed; raw pixels above all rows by kNN."""
    rows = {"SimCLR": None, HOSTILE: None, "Broken": None}
    grid = read_grid(write_grid(folder / "g.yaml", rows, seeds=[0, 1, 2], **keys))
    columns = [column for column in grid.columns if column is not None] or [None]
    cells, baselines = [], []
    for column in columns:
        for seed in grid.seeds:
            cells.append(made_up("SimCLR", column, seed, 0.7 + 0.01 * seed))
            if seed < 2:
                cells.append(made_up(HOSTILE, column, seed, 0.76 + 0.012 * seed))
            for name, top1 in (("raw pixels", 0.72), ("random weights", 0.6), ("majority class", 0.1)):
                same = dict.fromkeys(("linear", "few_label"), top1)
                baselines.append(made_up(name, column, seed, top1) | {"numbers": {**same, "knn": top1}})
    costs = {("SimCLR", column): {"share": 0.1, "step_seconds": 0.25, "loss_seconds": 0.025} for column in columns}
    ends = [f"{f'{column} / ' if column else ''}seed {seed}" for column in columns for seed in grid.seeds]
    left = [f"Broken / {end}" for end in ends] + [f"{HOSTILE} / {end}" for end in ends if end.endswith("2")]
    return summarise(grid, cells, costs, left, baselines, {f"Broken / {ends[0]}": f"error: {HOSTILE}"})


def test_the_page_says_what_the_table_says(tmp_path: Path) -> None:
    page = build_page(table_of(tmp_path), "contrast compare g.yaml")
    assert "3 rows × 3 seeds: 5 of 9 cells are finished." in page
    assert HOSTILE not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") > 3
    linear = page[page.index('<section id="linear"') : page.index('<section id="few_label"')]
    rows = re.findall(r'<tr class="(\w+) (\w+)">\s*<th scope="row">([^<]*)', linear)
    assert [row[2] for row in rows] == [
        *("SimCLR", "&lt;img src=x onerror=alert(1)&gt;"),
        *("raw pixels", "random weights", "majority class"),
    ]
    assert [row[0] for row in rows] == ["row", "row", "baseline", "baseline", "baseline"]
    assert '<td class="text"><b>71.0</b> (68.5 to 73.5)</td>' in linear
    assert "2 of 3 seeds" in linear
    assert "raw pixels, 72.0" in linear
    assert "kNN-20: no row is above raw pixels, so small differences between rows cannot show." in page
    assert "Linear probe: no row" not in page
    for text in ("contrast compare g.yaml", "commit 0123456789", "Digits: 1,437 training samples", "P, torch 2,"):
        assert text in page


def test_the_sign_of_a_difference_is_that_of_its_interval(tmp_path: Path) -> None:
    grid = read_grid(write_grid(tmp_path / "g.yaml", {"A": None, "B": None, "C": None, "D": None}, seeds=[0, 1]))
    tops = {"A": (0.7, 0.71), "B": (0.75, 0.7601), "C": (0.65, 0.6601), "D": (0.7, 0.75)}
    made = [made_up(row, None, seed, top) for row, both in tops.items() for seed, top in enumerate(both)]
    page = build_page(summarise(grid, made, {}, []), "c")
    linear = page[page.index('<section id="linear"') : page.index('<section id="few_label"')]
    signs = {name: sign for sign, name in re.findall(r'<tr class="row (\w+)">\s*<th scope="row">(\w)', linear)}
    assert signs == {"A": "none", "B": "gain", "C": "loss", "D": "none"}


def test_a_scale_places_values_and_has_round_ticks() -> None:
    scale = Scale(77.0, 84.0)
    assert (scale.place(77), scale.place(80.5), scale.place(84), scale.place(10)) == (3, 50, 97, 3)
    assert scale.ticks() == [78, 80, 82, 84]
    assert Scale(-5.2, 5.2).ticks() == [-4, -2, 0, 2, 4]
    assert Scale(99.0, 100.0).ticks() == [99, 99.2, 99.4, 99.6, 99.8, 100]


@pytest.mark.parametrize("columns", [{}, {"columns": {16: None, 256: None}, "axis": "batch size"}])
def test_a_browser_shows_the_page(columns: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(build_page(table_of(tmp_path, **columns), "contrast compare g.yaml"))
    with Browser(browser_program(), tmp_path / "profile") as browser:
        browser.open(f"file://{file}")
        groups = len(columns.get("columns", "1"))
        assert browser.value("document.querySelectorAll('.forest circle.mean').length") >= 3 * 4 * groups
        assert browser.value("document.querySelectorAll('.states td.failed').length") == 1
        assert browser.value("document.querySelectorAll('.states td.finished').length") == 5 * groups
        # An interval is drawn where the numbers say: the mean between the ends, inside the drawing.
        ends = browser.value(
            "[...document.querySelectorAll('.forest td.drawing svg')].filter(s => s.querySelector('.range')).map(s => {"
            "const r = s.querySelector('.range').getBoundingClientRect(), b = s.getBoundingClientRect(),"
            "c = s.querySelector('.mean').getBoundingClientRect(); const m = c.left + c.width / 2;"
            "return b.left <= r.left && r.left <= m + 1 && m <= r.right + 1 && r.right <= b.right})"
        )
        assert ends
        assert all(ends)
        for theme, page in (("light", "rgb(248, 247, 244)"), ("dark", "rgb(19, 21, 24)")):
            browser.prefer(theme)
            assert browser.value("getComputedStyle(document.body).backgroundColor") == page
        browser.value("document.getElementById('theme-toggle').click()")
        assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(248, 247, 244)"
        for width in (390, 1000, 1400):
            browser.resize(width, 900)
            assert browser.value("document.documentElement.scrollWidth") == width
        assert browser.said == []
        assert browser.asked[1:] == []


def test_a_terminal_gets_means_and_differences(tmp_path: Path) -> None:
    lines = terminal_table(table_of(tmp_path)).splitlines()
    assert re.fullmatch(r"method +linear probe +less SimCLR +10 labels a class .* seeds", lines[0])
    assert re.match(r"SimCLR +71\.0 +– .* 1 +3 of 3$", lines[2])
    assert re.match(rf"{re.escape(HOSTILE)} +76\.6 +\+6\.1 ±1\.3\* ", lines[3])
    assert re.match(r"\(raw pixels\) +72\.0 +– ", lines[4])
    assert lines[-1].startswith("not finished: Broken / seed 0; ")
