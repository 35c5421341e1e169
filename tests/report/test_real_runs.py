"""Pages of runs that are really trained, in a browser: all drawn, nothing said, nothing asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrast.records import read_rows
from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from tests.commands.running import pretrain
from tools.browser import Browser

ROOT = Path(__file__).parents[2]
PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CONVNET = ["--model.backbone", "ConvNet", "--model.backbone.widths", "[16,32,64]"]
DEMO = ["--config", "configs/demo.yaml", *CONVNET, "--scores.every_n_steps", 1]
MOCHI = "[{class_path: HardNegativeMixing, init_args: {hardest: 64, pairs: 32, queries: 16, start_epoch: 2}}]"
RUNS: dict[str, list[object]] = {
    "mochi": ["--config", "configs/method/mocov2.yaml", "--config", "configs/data/digits.yaml", "--config",
              "configs/experiment/digits_mocov2.yaml", *CONVNET, "--model.loss.transforms", MOCHI,
              "--scores.every_n_steps", 1, "--trainer.max_epochs", 40],
    "dbpm": ["--config", "configs/experiment/japanese_vowels_dbpm.yaml", "--trainer.max_epochs", 8,
             "--model.loss.weighting.warmup_epochs", 4, "--scores.every_n_steps", 1],
    "amcl": [*DEMO, "--config", "configs/loss/adaptive_temperature.yaml", "--trainer.max_epochs", 4],
    **{objective: [*DEMO, "--model.loss.objective", objective, "--trainer.max_epochs", 4]
       for objective in ("InfoNCE", "DCL", "HCL")},
}  # fmt: skip
EVERYWHERE = {"positive", "negative", "histogram", "gap", "d-prime", "auc", "overlap", "loss", "accuracy", "rate",
              "hardness-score", "hardness-gradient", "hardness-map-0", "false-by-rank", "course", "effective", "shares",
              "forces", "coupling-map-0", "coupling-mean", "uniformity", "alignment", "rank", "spectrum", "deviation",
              "norms", "margin", "map-0"}  # fmt: skip
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
            more = ["--online_knn.every_n_epochs", 2]
            assert pretrain(folder / name, *arguments, *more, small=False) == 0
    return folder


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no browser to draw the page in: install chromium")
    with Browser(PROGRAM, tmp_path / "profile") as found:
        yield found


def opened(browser: Browser, trained: Path, *names: str) -> str:
    """Write the page of some runs, open it, and wait until it is drawn."""
    page = build_page(read_runs([RunFolder(trained / name) for name in names]))
    path = trained / f"{'-'.join(names)}.html"
    path.write_text(page, encoding="utf-8")
    browser.open(path.as_uri())
    browser.until("document.documentElement.dataset.drawn", 60)
    return page


def drawn(browser: Browser) -> dict[str, int]:
    """Marks by chart; of a chart that is there for each run, the fewest."""
    return dict(
        browser.value(
            "[...document.querySelectorAll('[data-chart]')].map(e => [e.dataset.chart, Number(e.dataset.marks)])"
            ".sort((a, b) => b[1] - a[1])"
        )
    )


def check(browser: Browser, path: Path) -> None:
    assert browser.said == []
    assert browser.asked[1:] == [] or all(asked.startswith("data:") for asked in browser.asked[1:])
    assert browser.asked[0].startswith("file:")
    pictures = browser.value("[...document.images].map(i => i.complete && i.naturalWidth > 0)")
    assert len(pictures) > 30
    assert all(pictures)


@pytest.mark.parametrize("name", list(OWN))
def test_every_figure_of_a_real_run_is_drawn(name: str, browser: Browser, trained: Path) -> None:
    page = opened(browser, trained, name)
    marks = drawn(browser)
    assert set(marks) == EVERYWHERE | OWN[name]
    assert all(count >= 2 for count in marks.values()), marks
    check(browser, trained / name)
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
    check(browser, trained)
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
