"""Pieces of the comparison that need no run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from contrast import in_batch_pairs
from contrast.cli import main
from contrast.commands.compare import read_grid
from contrast.commands.compare_cell import training_seconds
from contrast.commands.compare_cost import _cut
from contrast.commands.compare_states import resolved
from contrast.commands.configuration import compose
from contrast.compare.figure import _chart, check_figure, draw
from contrast.compare.markdown import _difference, put_into_page, rendered
from contrast.compare.table import summarise
from contrast.errors import InputError
from contrast.records import append_row
from contrast.run_folder import RunFolder
from tests.compare.grids import ROOT, made_up, write_grid


def test_cells_are_rows_by_columns_by_seeds_and_later_overlays_win(tmp_path: Path) -> None:
    rows = {"A": {"files": ["a.yaml"], "flags": {"x.y": 1, "x.z": 1}}, "B": None}
    columns = {16: {"flags": {"x.z": 2}}, 32: {"files": ["c.yaml"]}}
    grid = read_grid(write_grid(tmp_path / "g.yaml", rows, columns=columns, seeds=[3, 5], axis="batch size"))
    made = grid.cells(Path("out"))
    assert [cell.name for cell in made[:3]] == ["A / 16 / seed 3", "B / 16 / seed 3", "A / 32 / seed 3"]
    assert len(made) == len({cell.folder for cell in made}) == 8
    assert made[0].folder == Path("out/A/16/seed-3")
    assert made[0].overlay.words() == [
        *("--config", "configs/demo.yaml", "--config", "tests/commands/small.yaml", "--config", "a.yaml"),
        *("--trainer.max_epochs=1", "--x.y=1", "--x.z=1", "--x.z=2", "--seed_everything=3"),
    ]
    assert compose([], made[0].overlay.flags).config["x"] == {"y": 1, "z": 2}


def test_values_of_flags_arrive_as_they_were_written(tmp_path: Path) -> None:
    values = {"a": 1e-5, "b": "a: b", "c": None, "d": [1, {"e": 0.5}], "f": True, "g": "12", "h": "ü" * 90}
    grid = read_grid(write_grid(tmp_path / "g.yaml", {"A": {"flags": values}}, seeds=[0]))
    (cell,) = grid.cells(tmp_path)
    assert compose([], cell.overlay.flags[1:-1]).config == values


def test_the_shipped_grids_resolve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    files = [file for file in (ROOT / "configs/compare").glob("*.yaml") if "rows" in yaml.safe_load(file.read_text())]
    assert files
    for file in files:
        grid = read_grid(file)
        configs = {cell.row: resolved(cell) for cell in grid.cells(tmp_path) if cell.seed == grid.seeds[0]}
        budgets = {
            (config["trainer"]["max_epochs"], config["data"]["init_args"]["batch_size"]) for config in configs.values()
        }
        assert len(budgets) == 1
        encoders = [config["model"]["init_args"]["backbone"] for config in configs.values()]
        assert all(encoder == encoders[0] for encoder in encoders)


def test_a_shipped_grid_is_found_by_its_name_in_any_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    grid = read_grid(Path("nearest_digits.yaml"))
    assert grid == read_grid(Path("configs/compare/nearest_digits.yaml"))
    (cell, *_) = grid.cells(Path("out"))
    assert all(file.is_file() for file in cell.overlay.files)
    assert compose(cell.overlay.files, cell.overlay.flags).config["model"]["class_path"] == "MoCo"
    Path("nearest_digits.yaml").write_text("rows: {Mine: }")
    assert list(read_grid(Path("nearest_digits.yaml")).rows) == ["Mine"]


def test_a_grid_that_is_nowhere_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        read_grid(Path("fashion_method.yaml"))
    said = str(refused.value)
    assert "no grid 'fashion_method.yaml'; did you mean 'fashion_methods.yaml'? known: batch_size.yaml, " in said
    assert "amcl.yaml" not in said  # an overlay
    with pytest.raises(InputError, match="no grid 'elsewhere/nearest"):
        read_grid(Path("elsewhere/nearest.yaml"))


def test_the_measured_row_of_amcl_keeps_its_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    cell = next(each for each in read_grid(Path("fashion_methods.yaml")).cells(tmp_path) if each.row == "SimCLR + AMCL")
    assert resolved(cell)["model"]["init_args"]["loss"]["init_args"]["temperature"]["init_args"]["form"] == "product"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "0"], "argument --jobs: '0': give a whole number from 1"),
        (["--docs", "none.md"], "'none.md' needs two lines once"),
        (["--figure", "f.svg"], "this grid has none"),
        (["--html", "no/folder/f.html"], "give the name of a file in a folder that exists"),
        (["--out", "g.yaml"], "is a file: give the name of a folder"),
        (["--job", "2"], "unrecognized arguments: --job 2"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_grid(Path("g.yaml"), {"A": None}, seeds=[0])
    assert main(["compare", "g.yaml", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("contrast compare: error: ")
    assert said in line
    assert [path.name for path in tmp_path.iterdir()] == ["g.yaml"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"sedes": [0]}, "no key 'sedes'; did you mean 'seeds'?"),
        ({"seeds": []}, "seeds []: give a list of whole numbers"),
        ({"seeds": [1, 1]}, "one of them is there twice"),
        ({"seeds": [True]}, "seeds [True]: give a list"),
        ({"baseline": "B"}, "baseline 'B' is not a row"),
        ({"rows": {}}, "has no rows"),
        ({"rows": {"a/b": None}}, "'a/b' cannot name a folder"),
        ({"rows": {"A": {"model.loss": "DCL"}}}, "rows, A: no key 'model.loss'; known: against, files, flags"),
        ({"rows": {"A": {"flags": ["DCL"]}}}, "flags a mapping of dotted names"),
        ({"evaluate": {"splits": 0}}, "evaluate.splits 0: give a whole number from 1"),
    ],
)
def test_a_wrong_grid_is_refused_in_one_line(keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    grid = write_grid(tmp_path / "g.yaml", **{"rows": {"A": None}, **keys})
    with pytest.raises(InputError) as refused:
        read_grid(grid)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_training_time_is_summed_over_processes_without_what_was_done_twice(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    # Three processes: killed after step 30 with a checkpoint of step 20, stopped at 40, ended at 50.
    for step, seconds in [(10, 1.0), (20, 2.0), (30, 3.0), (30, 5.0), (40, 7.0), (50, 0.5)]:
        append_row(folder.metrics, {"step": step, "seconds": seconds})
        append_row(folder.metrics, {"step": step, "online/knn_top1": 0.5})
    for rows in (6, 10):
        append_row(tmp_path / "resumes.jsonl", {"rows": rows})
    assert training_seconds(folder) == 2.0 + 7.0 + 0.5


def test_pairs_are_cut_off_from_the_encoder_and_what_is_one_tensor_stays_one() -> None:
    z = torch.nn.functional.normalize(torch.randn(2, 4, 8), dim=-1).requires_grad_()
    pairs = in_batch_pairs(z[0], z[1], torch.arange(4))
    (cut,), leaves = _cut([pairs])
    assert all(leaf.is_leaf and leaf.requires_grad for leaf in leaves)
    assert torch.equal(cut.query, pairs.query)
    assert (cut.negatives is cut.query) == (pairs.negatives is pairs.query)
    assert cut.index is pairs.index
    cut.query.sum().backward()
    assert z.grad is None


def two_axes(tmp_path: Path, columns: dict[Any, Any]) -> dict[str, Any]:
    rows = {"SimCLR": None, "DCL": None}
    grid = read_grid(write_grid(tmp_path / "g.yaml", rows, columns=columns, seeds=[0, 1, 2], axis="batch size"))
    made = []
    for row, gain in (("SimCLR", 0.0), ("DCL", 0.03)):
        for place, column in enumerate(columns):
            made += [made_up(row, str(column), seed, 0.7 + gain + 0.01 * seed + 0.05 * place) for seed in grid.seeds]
    costs = {("DCL", str(column)): {"share": 0.125, "step_seconds": 0.3} for column in columns}
    costs |= {("SimCLR", str(column)): {"share": None, "step_seconds": 0.25} for column in columns}
    return summarise(grid, made, costs, [])


def test_the_markdown_shows_gains_by_seed_and_bold_where_zero_is_out(tmp_path: Path) -> None:
    text = rendered(two_axes(tmp_path, {16: None, 64: None}), "the command")
    lines = text.splitlines()
    assert lines[0].startswith("| batch size | method | linear probe | less SimCLR | 10 labels a class |")
    assert lines[2].startswith("| 16 | SimCLR | 71.0 (68.5 to 73.5) | – |")
    assert lines[2].endswith("| 2 s | 1 | – | 3 |")
    assert lines[3].startswith("| 16 | DCL | 74.0 (71.5 to 76.5) | **+3.0 (+3.0 to +3.0)** |")
    assert lines[3].endswith("| 2 s | 1.20 | 12.5 % | 3 |")
    assert lines[5].startswith("| 64 | DCL | 79.0 (76.5 to 81.5) | **+3.0 (+3.0 to +3.0)** |")
    assert "- `the command`, commit 0123456789, seeds 0, 1, 2" in lines
    assert "- Digits: 1,437 training samples, 360 test samples" in lines


def test_a_difference_that_may_be_zero_is_not_bold_and_only_shared_seeds_pair(tmp_path: Path) -> None:
    grid = read_grid(write_grid(tmp_path / "g.yaml", {"A": None, "B": None}, seeds=[0, 1, 2]))
    base = [made_up("A", None, seed, top1, seconds=2.0) for seed, top1 in enumerate((0.70, 0.71, 0.72))]
    other = [made_up("B", None, seed, top1, seconds=3.0) for seed, top1 in ((1, 0.70), (2, 0.74))]
    table = summarise(grid, base + other, {}, ["B / seed 0"])
    _, entry = table["entries"]
    assert entry["seeds"] == entry["numbers"]["linear"]["difference"]["seeds"] == [1, 2]
    assert entry["step_ratio"] is None  # nothing was timed
    line = rendered(table, "c").splitlines()[3]
    assert line.endswith("| 3 s | – | – | 2 |")
    assert line.startswith("| B | 72.0 (46.6 to 97.4) | +0.5 (−18.6 to +19.6) | ")
    assert "**" not in line
    assert "95 % interval (Student's t over seeds);" in rendered(table, "c")
    alone = rendered(summarise(grid, [*base, other[0]], {}, []), "c")
    assert "(Student's t over seeds, Wilson's over the test samples where there is one seed);" in alone
    assert alone.splitlines()[3].startswith("| B | 70.0 (65.1 to 74.5) | – | ")


def test_a_row_is_compared_with_the_one_it_names(tmp_path: Path) -> None:
    rows = {"A": None, "B": None, "B + C": {"against": "B"}}
    grid = read_grid(write_grid(tmp_path / "g.yaml", rows, seeds=[0, 1]))
    tops = {"A": 0.7, "B": 0.8, "B + C": 0.81}
    made = [made_up(row, None, seed, top + 0.01 * seed) for row, top in tops.items() for seed in (0, 1)]
    costs = {(row, None): {"share": 0.5, "step_seconds": step} for row, step in zip(tops, (0.1, 0.2, 0.3), strict=True)}
    table = summarise(grid, made, costs, [])
    assert [(entry["base"], entry["step_ratio"]) for entry in table["entries"]] == [
        (None, None),
        ("A", pytest.approx(2.0)),
        ("B", pytest.approx(1.5)),
    ]
    lines = rendered(table, "c").splitlines()
    assert lines[0].startswith("| method | against | linear probe | less its base |")
    assert lines[2].startswith("| A | – | 70.5 ")
    assert lines[4].startswith("| B + C | B | 81.5 (75.1 to 87.9) | **+1.0 (+1.0 to +1.0)** |")


@pytest.mark.parametrize("base", ["D", "B"])
def test_a_row_against_no_other_row_is_refused(tmp_path: Path, base: str) -> None:
    file = write_grid(tmp_path / "g.yaml", {"A": None, "B": {"against": base}}, seeds=[0])
    with pytest.raises(InputError, match=f"rows, B: against '{base}', which is not another row"):
        read_grid(file)


def test_a_loss_of_points_is_bold_too_and_a_zero_has_no_minus() -> None:
    assert _difference({"mean": -0.02, "low": -0.03, "high": -0.01}) == "**−2.0 (−3.0 to −1.0)**"
    assert _difference({"mean": -0.0004, "low": -0.01, "high": 0.0092}) == "+0.0 (−1.0 to +0.9)"
    assert _difference({"mean": -0.0069, "low": -0.0141, "high": -0.0001}) == "−0.7 (−1.4 to +0.0)"
    assert _difference(None) == "–"


def test_one_seed_has_an_interval_over_the_test_samples_and_other_numbers_none(tmp_path: Path) -> None:
    grid = read_grid(write_grid(tmp_path / "g.yaml", {"A": None}, seeds=[0]))
    table = summarise(grid, [made_up("A", None, 0, 0.9, linear_auroc=0.99)], {}, [])
    numbers = table["entries"][0]["numbers"]
    assert "Wilson's over 360 test samples" in numbers["linear"]["over"]
    assert (numbers["linear_auroc"]["mean"], numbers["linear_auroc"]["low"]) == (0.99, None)
    assert "95 % interval (Wilson's over the test samples, of one seed);" in rendered(table, "c")


@pytest.mark.parametrize("columns", [{16: None, 256: None}, {"small": None, "large": None}])
def test_a_figure_has_a_line_a_row_and_the_columns_as_its_axis(columns: dict[Any, Any], tmp_path: Path) -> None:
    table = two_axes(tmp_path, columns)
    draw(table, "knn", tmp_path / "f.svg")
    drawn = (tmp_path / "f.svg").read_text()
    for text in ("SimCLR", "DCL", "batch size", "top-1 of kNN-20 (%)", *map(str, columns)):
        assert f">{text}<" in drawn
    assert "theme:" not in drawn
    band, line = _chart(table, "knn").to_dict()["layer"]
    assert [band["encoding"][end]["field"] for end in ("y", "y2")] == ["low", "high"]
    assert line["encoding"]["y"]["field"] == "mean"
    draw(table, "knn", tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="--metric top5: no cell has it"):
        draw(table, "top5", tmp_path / "f.svg")


def test_figures_and_pages_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.svg or \.png"):
        check_figure(Path("f.pdf"), 3)
    with pytest.raises(InputError, match="this grid has none"):
        check_figure(Path("f.svg"), 1)
    page = tmp_path / "page.md"
    begin, end = "<!-- compare g: made by contrast compare, not by hand -->\n", "<!-- end of compare g -->\n"
    for wrong in (end + begin, begin, begin + end + begin, begin + begin + end, begin + end + end):
        page.write_text(wrong)
        with pytest.raises(InputError, match="needs two lines once"):
            put_into_page(page, "g", "table")
        assert page.read_text() == wrong
    with pytest.raises(InputError, match="needs two lines once"):
        put_into_page(tmp_path / "none.md", "g", "table")


def test_a_page_with_the_marker_of_before_gets_the_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- compare g: made by tools/compare.py, not by hand -->\nold\n<!-- end of compare g -->\nb\n")
    put_into_page(page, "g", "new")
    begin = "<!-- compare g: made by contrast compare, not by hand -->"
    assert page.read_text() == f"a\n{begin}\n\nnew\n<!-- end of compare g -->\nb\n"
