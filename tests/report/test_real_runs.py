"""Pages of runs that are really trained, in a browser: all drawn, nothing said, nothing asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrast.cli import main
from contrast.records import read_rows
from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from tests.browsing import browser_program
from tests.commands.running import pretrain
from tests.harness.browser import Browser
from tests.harness.real_runs import RUNS
from tests.report.looking import PANEL, check, densities, downloaded, drawn, histograms

ROOT = Path(__file__).parents[2]
EVERYWHERE = {"positive", "negative", "histogram", "gap", "d-prime", "auc", "overlap", "loss", "accuracy", "rate",
              "hardness-score", "hardness-gradient", "hardness-map-0", "false-by-rank", "course", "effective", "shares",
              "forces", "coupling-map-0", "coupling-mean", "uniformity", "alignment", "rank", "spectrum", "deviation",
              "norms", "margin", "map-0", "pretext"}  # fmt: skip
OWN = {
    "mochi": {"fresh", "by-age", "ages"},
    "dbpm": {"flagged", "weights"},
    "amcl": {"temperature", "by-score", "spread", "correlation"},
}
DIFFERENCES = {f"difference-{name}" for name in ("knn", "positive", "negative", "auc", "effective", "false",
                                                 "uniformity", "rank")}  # fmt: skip


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for name, arguments in RUNS.items():
            assert pretrain(folder / name, *arguments, small=False) == 0
        assert main(["probe", str(folder / "amcl"), "--per-class", "5", "--seeds", "2"]) == 0
        assert main(["knn", str(folder / "amcl")]) == 0
    return folder


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(browser_program(), tmp_path / "profile") as found:
        yield found


def opened(browser: Browser, trained: Path, *names: str) -> str:
    """Write the page of some runs, open it, and wait until it is drawn."""
    page = build_page(read_runs([RunFolder(trained / name) for name in names]))
    path = trained / f"{'-'.join(names)}.html"
    path.write_text(page, encoding="utf-8")
    browser.open(path.as_uri())
    browser.until("document.documentElement.dataset.drawn", 60)
    return page


@pytest.mark.parametrize("name", list(OWN))
def test_every_figure_of_a_real_run_is_drawn(name: str, browser: Browser, trained: Path) -> None:
    page = opened(browser, trained, name)
    marks = drawn(browser)
    assert set(marks) == EVERYWHERE | OWN[name]
    assert all(count >= 2 for count in marks.values()), marks
    check(browser)
    assert len(page.encode()) < 8_000_000
    shown = "document.getElementById('step-shown').textContent"
    last = browser.value(shown)
    browser.value("(s => { s.value = 2; s.dispatchEvent(new Event('input')); })(document.getElementById('step'))")
    steps = [row["step"] for row in read_rows(trained / name / "scores.jsonl")[1:]]
    assert browser.value(shown).startswith(f"{steps[2]} · epoch ")
    assert browser.value(shown) != last
    assert f"at step {steps[2]}" in browser.value("document.querySelector('.histogram h4').textContent")


def test_a_page_of_200_snapshots_stays_light(trained: Path) -> None:
    rows = read_rows(trained / "mochi/scores.jsonl")[1:]
    assert len(rows) == 200
    assert len(build_page(read_runs([RunFolder(trained / "mochi")])).encode()) < 8_000_000


def test_a_comparison_of_three_losses_is_drawn(browser: Browser, trained: Path) -> None:
    opened(browser, trained, "InfoNCE", "DCL", "HCL")
    marks = drawn(browser)
    maps = {f"{kind}-map-{place}" for kind in ("hardness", "coupling") for place in range(3)}
    assert set(marks) == EVERYWHERE | maps | {"map-1", "map-2"} | DIFFERENCES
    assert all(count >= 2 for count in marks.values()), marks
    check(browser)
    settings = browser.value("document.getElementById('settings').textContent")
    assert all(name in settings for name in ("InfoNCE", "DCL", "HCL"))


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_nothing_is_wider_than_the_window(width: int, theme: str, browser: Browser, trained: Path) -> None:
    browser.resize(width, 900)
    browser.prefer(theme)
    opened(browser, trained, "mochi")
    assert browser.value("document.documentElement.scrollWidth") <= width


def test_the_keyboard_reaches_the_slider_and_every_download(browser: Browser, trained: Path) -> None:
    opened(browser, trained, "amcl")
    hidden = browser.value(
        "[...document.querySelectorAll('#step, [data-download], summary, .bar a')].filter(e => e.tabIndex < 0).length"
    )
    assert hidden == 0


def test_the_keys_walk_over_the_steps(browser: Browser, trained: Path) -> None:
    opened(browser, trained, "mochi")
    rows = read_rows(trained / "mochi/scores.jsonl")[1:]
    browser.value("document.getElementById('step').focus()")
    for key, row in (("ArrowLeft", -2), ("ArrowLeft", -3), ("ArrowRight", -2), ("Home", 0), ("ArrowRight", 1)):
        browser.press(key)
        step = rows[row]["step"]
        assert browser.value("document.getElementById('step-shown').textContent").startswith(f"{step} · epoch ")
        assert browser.value("location.hash") == f"#step={step}"
        chosen = browser.value(
            "panels.filter(each => each.host.matches('.map')).map(e => e.view.data('chosen')[0].step)"
        )
        assert chosen == [step, step], "the rule in both maps goes along"


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_histograms_are_of_the_rows_counts(scale: str, browser: Browser, trained: Path) -> None:
    opened(browser, trained, "mochi")
    browser.value(f"document.querySelector('[name=density-scale][value={scale}]').click()")
    browser.until(f"{PANEL}.view?.scale('y').type === '{scale}'")
    header, *rows = read_rows(trained / "mochi/scores.jsonl")
    shown = ["positive", "negative", "hardest"]
    for kind in ("same_class", "pair_mix", "query_mix"):
        assert histograms(browser) == densities(header, rows[-1], shown)
        box = f"document.querySelector('[name=some-negatives][value={kind}]')"
        browser.value(f"{box}.focus()")
        browser.press("Space")
        assert browser.value(f"{box}.checked")
        shown.append(kind)
    assert histograms(browser) == densities(header, rows[-1], shown)
    floor = browser.value(f"{PANEL}.view.scale('y').domain()[0]")
    assert 0 < floor < 0.01 if scale == "log" else floor == 0
    assert browser.value(f"Math.min(...{PANEL}.view.data('histogram').map(e => e.density))") == floor, "no line is open"
    assert browser.value("decodeURIComponent(location.hash)").endswith(
        "negatives=hardest+same_class+pair_mix+query_mix"
    )
    offered = browser.value("[...document.querySelectorAll('[name=some-negatives]')].map(e => e.value)")
    assert offered == ["hardest", "same_class", "pair_mix", "query_mix", "synthetic"], "its own are all mixes"


def test_what_every_button_saves_can_be_read(browser: Browser, trained: Path, tmp_path: Path) -> None:
    opened(browser, trained, "mochi")
    browser.save_to(tmp_path)
    figures = browser.value("[...document.querySelectorAll('figure')].map(e => e.id)")
    assert len(figures) > 12
    for figure in figures:
        drawing, rows = downloaded(browser, tmp_path, figure)
        panels = browser.value(f"document.querySelectorAll('#{figure} [data-chart]').length")
        pictures = browser.value(f"document.querySelectorAll('#{figure} img').length")
        inner = drawing.findall("{http://www.w3.org/2000/svg}svg")
        images = [part for part in drawing.iter() if part.tag.endswith("}image")]
        assert len(images) >= pictures > 20 if figure == "gallery" else len(inner) == panels > 0, figure
        assert not [part.get("href") for part in images if not part.get("href", "").startswith("data:image/png")]
        assert "".join(drawing.itertext()).strip(), "axes have words"
        assert len(rows) > 1, figure
        assert {len(row) for row in rows} == {len(rows[0])}, figure
        if figure == "score-densities":
            written = read_rows(trained / "mochi/scores.jsonl")[1:]
            column = {title: place for place, title in enumerate(rows[0])}
            for kind in ("positive", "negative", "hardest"):
                counts = [int(row[column["count"]]) for row in rows[1:] if row[column["pairs"]] == kind]
                assert counts == [count for row in written if kind in row for count in row[kind]["counts"]]
    assert browser.said == []


def test_a_page_of_an_evaluated_run_has_its_accuracies(browser: Browser, trained: Path) -> None:
    opened(browser, trained, "amcl")
    shown = browser.value("document.querySelector('.accuracies').innerText")
    files = sorted((trained / "amcl/evaluations").glob("*.json"))
    assert len(files) == 2
    for file in files:
        found = json.loads(file.read_text())
        low, high = found["top1_interval"]
        for words in (f"{100 * found['top1']:.1f}\xa0%", f"{100 * low:.1f}–{100 * high:.1f}\xa0%", file.stem):
            assert words in shown
    assert "Linear probe" in shown
    assert "kNN" in shown
