"""Whole grids: run, failed, interrupted, gone on with, refused."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from contrast.compare import schedule
from contrast.compare.cells import locked
from contrast.evaluation import mean_interval, paired_difference
from contrast.records import read_rows
from tests.compare.grids import ROOT, cells, compare, write_grid

ROWS = {
    "Broken": {"flags": {"data.batch_size": 4096}},
    "SimCLR": None,
    "DCL": {"flags": {"model.loss.objective": "DCL"}},
}


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@dataclass(frozen=True)
class Done:
    """A grid that has run, and what it said."""

    grid: Path
    out: Path
    page: Path
    code: int


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Two rows that train and one that cannot, two seeds: the one big run of these tests."""
    folder = tmp_path_factory.mktemp("compare")
    grid = write_grid(folder / "three.yaml", ROWS, seeds=[0, 1], baseline="SimCLR")
    page = folder / "page.md"
    begin, end = "<!-- compare three: made by contrast compare, not by hand -->", "<!-- end of compare three -->"
    page.write_text(f"# By hand\n\n{begin}\nthe table before\n{end}\n\nMore by hand.\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        code = compare(grid, folder / "out", "--jobs", 2, "--docs", page)
    return Done(grid, folder / "out", page, code)


def test_a_row_that_fails_hurts_no_other_and_is_told_with_its_last_line(done: Done) -> None:
    assert done.code == 1
    assert {(cell["row"], cell["seed"]) for cell in cells(done.out)} == {
        (r, s) for r in ("SimCLR", "DCL") for s in (0, 1)
    }
    table = json.loads((done.out / "table.json").read_text())
    assert table["unfinished"] == ["Broken / seed 0", "Broken / seed 1"]
    assert [entry["row"] for entry in table["entries"]] == ["SimCLR", "DCL"]
    assert (
        (done.out / "Broken/seed-0.log").read_text().splitlines()[-1].startswith("contrast compare: error: data.batch")
    )


def test_a_cell_is_the_run_that_its_row_and_seed_say(done: Done) -> None:
    for cell in cells(done.out):
        assert cell["words"][-1] == f"--seed_everything={cell['seed']}"
        assert 0 < cell["train_seconds"] < 60
        assert cell["machine"]["threads"] == 1
        assert cell["machine"]["cells_at_a_time"] == 2
        kept = yaml.safe_load((done.out / cell["row"] / f"seed-{cell['seed']}" / "config.yaml").read_text())
        assert kept["seed_everything"] == cell["seed"]
        objective = kept["model"]["init_args"]["loss"]["init_args"]["objective"]["class_path"]
        assert objective.endswith({"SimCLR": ".InfoNCE", "DCL": ".DCL"}[cell["row"]])


def test_the_table_is_what_its_cells_say(done: Done) -> None:
    table = json.loads((done.out / "table.json").read_text())
    simclr, dcl = table["entries"]
    values = {
        row: [cell for cell in sorted(cells(done.out), key=lambda cell: cell["seed"]) if cell["row"] == row]
        for row in ("SimCLR", "DCL")
    }
    for name in ("linear", "few_label", "knn"):
        first, second = ([cell["numbers"][name] for cell in values[row]] for row in ("SimCLR", "DCL"))
        over, difference = mean_interval(second), paired_difference(second, first)
        assert simclr["numbers"][name]["values"] == first
        assert simclr["numbers"][name]["difference"] is None
        found = dcl["numbers"][name]
        assert (found["mean"], found["low"], found["high"]) == (over.mean, max(0.0, over.low), min(1.0, over.high))
        assert (found["difference"]["mean"], found["difference"]["low"]) == (difference.mean, difference.low)
    assert dcl["train_seconds"] == [cell["train_seconds"] for cell in values["DCL"]]
    assert (simclr["base"], dcl["base"], simclr["step_ratio"]) == (None, "SimCLR", None)
    assert dcl["step_ratio"] == dcl["loss_cost"]["step_seconds"] / simclr["loss_cost"]["step_seconds"]
    for cell in values["DCL"]:
        assert cell["numbers"]["few_label"] == pytest.approx(sum(split["top1"] for split in cell["per_split"]) / 2)


def test_the_cost_of_the_loss_is_a_share_of_the_step(done: Done) -> None:
    for entry in json.loads((done.out / "table.json").read_text())["entries"]:
        cost = entry["loss_cost"]
        assert 0 < cost["loss_seconds"] < cost["step_seconds"]
        assert cost["share"] == cost["loss_seconds"] / cost["step_seconds"]
        assert json.loads((done.out / entry["row"] / "cost.json").read_text()) == cost


def test_the_page_keeps_its_prose_and_gets_the_table(done: Done) -> None:
    text = done.page.read_text()
    table = (done.out / "table.md").read_text()
    assert text.startswith("# By hand\n\n<!-- compare three")
    assert text.endswith("<!-- end of compare three -->\n\nMore by hand.\n")
    assert table in text
    assert "the table before" not in text
    assert "| DCL | " in table
    assert "not finished: Broken / seed 0; Broken / seed 1" in table
    for baseline in ("raw pixels", "random weights", "majority class"):
        assert f"| *{baseline}* | " in table


def test_the_html_page_shows_what_failed_and_what_it_must_beat(done: Done) -> None:
    page = (done.out / "table.html").read_text()
    assert "3 rows × 2 seeds: 4 of 6 cells are finished." in page
    assert page.count('<td class="failed"') == 2
    assert "contrast compare: error: data.batch" in page
    assert page.count(">raw pixels<") == page.count(">majority class<") == 3
    assert f"contrast compare {done.grid}" in page


def _no_process(*_: object) -> None:
    raise AssertionError("a cell was started")


@pytest.fixture
def again(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The two rows that trained, on a copy of the finished cells, where no process may start."""
    shutil.copytree(done.out, tmp_path / "out")
    monkeypatch.setattr(schedule, "_start", _no_process)

    def run(rows: dict[str, object], *words: object, **keys: object) -> int:
        grid = write_grid(tmp_path / "three.yaml", rows, seeds=[0, 1], baseline="SimCLR", **keys)
        return compare(grid, tmp_path / "out", *words)

    return run


GOOD = {row: ROWS[row] for row in ("SimCLR", "DCL")}


def test_a_finished_cell_is_not_run_again(done: Done, tmp_path: Path, again: Callable[..., int]) -> None:
    assert again(GOOD) == 0
    before, after = (json.loads((out / "table.json").read_text()) for out in (done.out, tmp_path / "out"))
    assert after["unfinished"] == []
    assert after["entries"] == before["entries"]


def test_another_configuration_is_refused_and_the_cell_named(
    again: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert again({**GOOD, "DCL": {"flags": {"model.loss.objective": "DCL", "model.loss.temperature": 0.3}}}) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("contrast compare: error: DCL / seed 0 was trained with another configuration: delete ")


def test_another_evaluation_does_not_pass_for_the_old_one(again: Callable[..., int]) -> None:
    with pytest.raises(AssertionError, match="a cell was started"):
        again(GOOD, evaluate={"per_class": 3, "neighbours": 5, "splits": 2})


def test_a_row_that_fits_no_class_is_refused_before_any_runs(
    again: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert again({**GOOD, "Typo": {"flags": {"model.loss.objective": "DLC"}}}) == 2
    assert "Typo / seed 0: " in capsys.readouterr().err


def test_two_comparisons_do_not_share_a_folder(
    tmp_path: Path, again: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path / "out"):
        assert again(GOOD) == 2
    assert "is in use by another comparison" in capsys.readouterr().err


# First the cell is killed, then the grid is interrupted, each once and in mid-epoch.
STOP = """
import os, pathlib, signal, time
import lightning

class Stop(lightning.Callback):
    def __init__(self, folder: str) -> None:
        self.folder = pathlib.Path(folder)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        killed, interrupted = self.folder / "killed", self.folder / "interrupted"
        if trainer.global_step == 4 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if trainer.global_step == 5 and not interrupted.exists():
            interrupted.touch()
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(2)
"""


def test_a_killed_cell_and_an_interrupted_grid_go_on_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stopping.py").write_text(STOP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    stop = [{"class_path": "stopping.Stop", "init_args": {"folder": str(tmp_path)}}]
    rows = {"SimCLR": {"flags": {"trainer.max_epochs": 2, "trainer.callbacks": stop}}}
    grid, out = write_grid(tmp_path / "one.yaml", rows, seeds=[0]), tmp_path / "out"
    run = out / "SimCLR/seed-0"

    assert compare(grid, out) == 1
    assert "SimCLR / seed 0 failed: ended by signal 9" in capsys.readouterr().err
    assert [row["step"] for row in read_rows(run / "metrics.jsonl") if "train/loss" in row] == [1, 2, 3]
    assert list(cells(out)) == []

    assert compare(grid, out) == 130
    assert capsys.readouterr().err.endswith("contrast compare: error: interrupted; the same command continues\n")
    assert list(cells(out)) == []

    started = time.perf_counter()
    assert compare(grid, out) == 0
    # Killed at step 4 with a checkpoint of step 3, saved and stopped at step 5, ended at step 6: nothing is done twice.
    assert [row["step"] for row in read_rows(run / "metrics.jsonl") if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert len(read_rows(run / "resumes.jsonl")) == 2
    (cell,) = cells(out)
    assert 2 < cell["train_seconds"] < 2 + time.perf_counter() - started  # the callback slept for two
