"""Finished cells: used again, or refused, or evaluated again; and result files of another person."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from contrast.commands import compare_states
from contrast.commands.compare import read_grid
from contrast.commands.compare_cell import _names_only_classes_of
from contrast.commands.compare_states import needs_trust, resolved, same_configuration
from contrast.compare import schedule
from contrast.compare.cells import read_baselines, read_cell, require_no_links
from contrast.compare.grid import fingerprint
from contrast.errors import InputError
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint, write_checkpoint
from tests.compare.grids import EVALUATE, ROOT, compare, write_grid

FINISHED = Path(__file__).parent / "finished"
"""Two cells as `python tools/compare.py` of commit 77f8470 finished them, without records and features."""

ADAPTIVE = {"class_path": "AdaptiveTemperature", "init_args": {"width": 8, "hidden_width": 4, "form": "product"}}
ROWS: dict[str, Any] = {"SimCLR": None, "AMCL": {"flags": {"model.loss.temperature": ADAPTIVE}}}


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished cells, where no process may start."""

    def start(cell: Any, *_: object) -> None:
        raise AssertionError(f"started: {cell.name}")

    monkeypatch.setattr(schedule, "_start", start)
    return Path(shutil.copytree(FINISHED, tmp_path / "out"))


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    flags = {"trainer.max_epochs": 1, "data.limit": 96}
    common = {"files": ["configs/demo.yaml", "tests/commands/small.yaml"], "flags": flags}
    return write_grid(tmp_path / "two.yaml", ROWS, seeds=[0], common=common)


def change(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def test_cells_that_the_command_of_before_finished_are_not_run_again(
    grid: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(grid, out) == 0
    table = json.loads((out / "table.json").read_text())
    assert table["unfinished"] == []
    kept = {row: json.loads((FINISHED / row / "seed-0/cell.json").read_text()) for row in ROWS}
    for entry in table["entries"]:
        assert entry["numbers"]["linear"]["values"] == [kept[entry["row"]]["numbers"]["linear"]]
        assert entry["loss_cost"] == json.loads((FINISHED / entry["row"] / "cost.json").read_text())
    # What was measured before stays, and the baseline that is new comes to it.
    before = json.loads((FINISHED / "baselines.json").read_text())
    after = json.loads((out / "baselines.json").read_text())
    assert after[:2] == before
    assert [each["row"] for each in after] == ["raw pixels", "random weights", "majority class"]
    assert after[2]["numbers"]["linear"] == pytest.approx(37 / 360, abs=0.02)  # ten classes of nearly equal size
    said = capsys.readouterr().out
    assert "(majority class)" in said
    assert (out / "table.html").read_text().startswith("<!DOCTYPE html>")


def test_a_default_of_before_is_no_other_configuration(grid: Path, out: Path) -> None:
    """Versions before the form `concat` wrote no form, and meant the product."""
    file = out / "AMCL/seed-0/config.yaml"
    stored = yaml.safe_load(file.read_text())
    del stored["model"]["init_args"]["loss"]["init_args"]["temperature"]["init_args"]["form"]
    file.write_text(yaml.safe_dump(stored))
    (out / "AMCL/seed-0/metrics.jsonl").touch()  # by which a configuration is known to be of a run
    change(out / "AMCL/seed-0/cell.json", lambda cell: cell.update(configuration="of another version"))
    cell = next(cell for cell in read_grid(grid).cells(out) if cell.row == "AMCL")
    wanted = resolved(cell)
    assert same_configuration(file, wanted)
    wanted["model"]["init_args"]["loss"]["init_args"]["temperature"]["init_args"]["form"] = "concat"
    assert not same_configuration(file, wanted)


def test_a_mean_that_the_run_measured_is_no_other_configuration(grid: Path, out: Path, tmp_path: Path) -> None:
    stored = yaml.safe_load((out / "SimCLR/seed-0/config.yaml").read_text())
    wanted = json.loads(json.dumps(stored))
    wanted["data"]["init_args"].update(mean=None, std=None)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(stored))
    assert same_configuration(tmp_path / "config.yaml", wanted)
    wanted["data"]["init_args"].update(batch_size=31)
    assert not same_configuration(tmp_path / "config.yaml", wanted)


@pytest.mark.parametrize("part", ["trained_on", "data"])
def test_a_cell_of_other_training_data_is_refused(
    part: str, grid: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(cell: dict[str, Any]) -> None:
        other = {**cell["data"]["train"], "contents": "0" * 32}
        cell.update({"trained_on": other} if part == "trained_on" else {"data": {**cell["data"], "train": other}})

    change(out / "AMCL/seed-0/cell.json", edit)
    assert compare(grid, out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("contrast compare: error: AMCL / seed 0 was trained on other data than those now (checksum")
    assert "00000000 then, 8dbd4d53 now" in line
    assert line.endswith("or give another --out")


def test_a_cell_that_waits_is_not_continued_on_other_training_data(
    grid: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "AMCL/seed-0/cell.json").unlink()
    checkpoint = out / "AMCL/seed-0/checkpoints/last.ckpt"
    content = read_checkpoint(checkpoint)
    content["contrast"]["data"]["samples"] = 95
    write_checkpoint(content, checkpoint)
    assert compare(grid, out) == 2
    assert "was trained on other data than those now (95 samples then, 96 now)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "edit",
    [
        lambda cell: cell["data"]["test"].update(contents="0" * 32),
        lambda cell: cell["evaluate"].update(splits=3),
    ],
)
def test_other_test_data_or_settings_are_evaluated_again(
    edit: Callable[[dict[str, Any]], None], grid: Path, out: Path
) -> None:
    change(out / "AMCL/seed-0/cell.json", edit)
    with pytest.raises(AssertionError, match="started: AMCL / seed 0"):
        compare(grid, out)


def test_finished_cells_make_a_table_where_their_data_are_not(
    grid: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(config: dict[str, Any]) -> None:
        raise InputError("no data here")

    assert compare(grid, out) == 0  # measures the one baseline that is new
    monkeypatch.setattr(compare_states, "_identified", missing)
    assert compare(grid, out) == 0
    assert "note    finished cells are not compared with their data: no data here" in capsys.readouterr().err


def test_only_what_the_grid_names_may_need_trust(grid: Path, out: Path) -> None:
    config = resolved(read_grid(grid).cells(out)[0])
    assert not needs_trust(config)
    config["data"]["init_args"]["train"]["init_args"]["download"] = True
    assert needs_trust(config)
    del config["data"]["init_args"]["train"]["init_args"]["download"]
    config["trainer"]["callbacks"] = [{"class_path": "tests.compare.test_cells.Own"}]
    assert needs_trust(config)


def test_a_checkpoint_that_names_other_classes_than_the_grid_is_not_trusted(grid: Path, out: Path) -> None:
    cell = read_grid(grid).cells(out)[0]
    folder, config = RunFolder(cell.folder), resolved(cell)
    assert _names_only_classes_of(folder, config)
    content = read_checkpoint(folder.last_checkpoint)
    content["contrast"]["config"]["data"]["init_args"]["train"] = {"class_path": "os.system"}
    write_checkpoint(content, folder.last_checkpoint)
    assert not _names_only_classes_of(folder, config)


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda cell: cell.pop(name) and None


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda cell: cell["numbers"].update(linear=1.5), "between 0 and 1"),
        (lambda cell: cell["numbers"].update(knn="<b>"), "numbers are missing"),
        (lambda cell: cell["numbers"].pop("knn"), "numbers lack one of"),
        (lambda cell: cell.update(seed="0"), "seed is missing"),
        (lambda cell: cell.update(row="AMCL"), "it is of another cell"),
        (lambda cell: cell["data"]["test"].update(samples=0), "data.test is missing"),
        (lambda cell: cell.update(train_seconds=float("nan")), "train_seconds is missing"),
        (lambda cell: cell["evaluate"].update(splits=True), "evaluate is missing"),
        *((_without(name), f"{name} is missing") for name in ("commit", "machine", "configuration", "data")),
    ],
)
def test_a_damaged_result_is_refused_in_one_line(
    edit: Callable[[dict[str, Any]], None], why: str, grid: Path, out: Path
) -> None:
    cell = read_grid(grid).cells(out)[0]
    assert read_cell(cell) is not None
    change(cell.result, edit)
    with pytest.raises(InputError, match=rf"cell\.json' is damaged or not from .*{why}.*delete it"):
        read_cell(cell)


def test_what_is_no_json_is_refused(grid: Path, out: Path) -> None:
    cell = read_grid(grid).cells(out)[0]
    for text in ("", "{", "[1]", "[" * 100_000):
        cell.result.write_text(text)
        with pytest.raises(InputError, match="is damaged or not from"):
            read_cell(cell)
    (out / "baselines.json").write_text("{}")
    with pytest.raises(InputError, match="it holds no list"):
        read_baselines(out / "baselines.json")


def test_text_of_a_result_can_do_nothing_in_a_page_or_a_terminal(grid: Path, out: Path) -> None:
    cell = read_grid(grid).cells(out)[0]
    hostile = "A\x1b[2J`| <script>alert(1)</script> [x](javascript:y)\n# " + "long " * 100
    change(cell.result, lambda found: found["machine"].update(processor=hostile))
    content = read_cell(cell)
    assert content is not None
    processor = content["machine"]["processor"]
    assert not set("\x1b`|<>[]\n#") & set(processor)
    assert len(processor) <= 200


def test_a_link_where_a_comparison_writes_is_refused(grid: Path, out: Path, tmp_path: Path) -> None:
    cells = read_grid(grid).cells(out)
    require_no_links(out, cells)
    for path in (out / "table.md", cells[0].log, out / "features"):
        path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(InputError, match="is a symbolic link, and a comparison writes there"):
            require_no_links(out, cells)
        path.unlink()
    (tmp_path / "linked").symlink_to(out)
    require_no_links(tmp_path / "linked", read_grid(grid).cells(tmp_path / "linked"))  # the user's own link


def test_the_key_of_a_configuration_is_that_of_before(grid: Path, out: Path) -> None:
    for cell in read_grid(grid).cells(out):
        assert fingerprint(resolved(cell)) == json.loads(cell.result.read_text())["configuration"]
    assert json.loads(cell.result.read_text())["evaluate"] == EVALUATE
