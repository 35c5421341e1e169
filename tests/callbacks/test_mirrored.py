"""What loggers are shown: sheets of the pairs that stand out, and figures from rows of scores."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contrast.callbacks import mirrored_figures
from contrast.callbacks.loggers import drawn, sheets_of
from contrast.callbacks.mirrored_figures import figures
from contrast.records import append_row
from contrast.report.curves import rank_labels
from contrast.run_folder import RunFolder

COLOURS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255)}


def pair(index: int, *pictures: str) -> dict[str, Any]:
    numbers = {"label": None, "loss": 2.5, "positive": 0.5, "weight": 0.0, "flag": "noisy", "history": {}}
    return {"index": index, **numbers, "pictures": [f"gallery/{name}.png" for name in pictures]}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path)
    made.pictures.mkdir()
    for name, size in zip(COLOURS, [(8, 8), (8, 4), (60, 60)], strict=True):
        Image.new("RGB", size, name).save(made.pictures / f"{name}.png")
    return made


def test_flagged_pairs_go_before_those_of_highest_loss(folder: RunFolder) -> None:
    row = {"step": 3, "highest": [pair(1, "red")], "queries": []}
    (sheet,) = sheets_of(folder, row)
    assert (sheet.name, sheet.columns[-1]) == ("pairs/highest_loss", "view 1")
    (sheet,) = sheets_of(folder, row | {"flagged": [pair(2, "red", "blue"), pair(5, "blue")]})
    assert sheet.name == "pairs/bad"
    red, blue = folder.path / "gallery/red.png", folder.path / "gallery/blue.png"
    assert sheet.rows == [
        (2, None, None, None, 2.5, 0.5, 0.0, "noisy", red, blue),
        (5, None, None, None, 2.5, 0.5, 0.0, "noisy", blue, None),
    ]
    assert sheets_of(folder, {"step": 3, "highest": [], "queries": []}) == []


def test_pictures_lie_as_the_rows_do_and_mixes_stay_white(folder: RunFolder) -> None:
    mix = {"index": -1, "label": None, "score": 0.1, "share": 0.2, "kind": "pair_mix", "picture": None}
    own = {**mix, "index": 4, "label": 1, "class": "dog", "path": "dog/1.png", "kind": "shared"}
    own["picture"] = "gallery/lime.png"
    query = {"index": 7, "label": 3, "positive": 0.9, "picture": "gallery/red.png", "negatives": [mix, own]}
    other = {**query, "picture": "gallery/blue.png", "negatives": [own]}
    (sheet,) = sheets_of(folder, {"step": 3, "highest": [], "queries": [query, other]})
    # Rows of earlier versions name neither class nor file.
    assert [(*row[1:5], *row[6:]) for row in sheet.rows] == [
        (3, None, None, 0.9, None, None, None, 0.1, 0.2, "pair_mix"),
        *[(3, None, None, 0.9, 1, "dog", "dog/1.png", 0.1, 0.2, "shared")] * 2,
    ]
    picture = np.asarray(drawn(sheet))
    assert picture.shape == (2 * 62, 3 * 62 + 10, 3)
    # Small pictures are enlarged, the largest one sets the places' size; between query and negatives there is a gap.
    seen = [[tuple(picture[top, left].tolist()) for left in (0, 72, 134)] for top in (0, 62)]
    white = (255, 255, 255)
    assert seen == [[COLOURS["red"], white, COLOURS["lime"]], [COLOURS["blue"], COLOURS["lime"], white]]
    assert tuple(picture[47, 47]) == COLOURS["red"]
    assert tuple(picture[48, 48]) == white


def scores(folder: RunFolder, steps: int, **parts: Any) -> None:
    append_row(folder.scores, {"format": 2, "edges": [-1.0, 0.0, 1.0], "rank_ends": [1, 2, 4]})
    for step in range(1, steps + 1):
        append_row(folder.scores, {"step": step, "epoch": 0, **parts})


def test_figures_of_what_there_is(folder: RunFolder) -> None:
    assert figures(folder) == {}
    scores(folder, 300, positive={"counts": [1, 3]})
    assert [*figures(folder)] == ["scores/over_training"]
    hardness = {"score": [0.9, None, 0.2], "same_class": {"all": [0.1, 0.1, 0.1]}}
    append_row(folder.scores, {"step": 301, "epoch": 0, "hardness": hardness})
    drawn = figures(folder)
    assert [*drawn] == ["scores/over_training", "hardness/by_rank"]
    for png in drawn.values():
        with Image.open(io.BytesIO(png)) as picture:
            extremes = picture.convert("L").getextrema()
        assert extremes[0] < 100
        assert extremes[1] == 255


def test_cells_are_densities_between_steps() -> None:
    cells = mirrored_figures._cells([-1.0, 0.0, 0.5], [(10, [1, 3]), (30, [0, 2])])
    found = [(cell["from"], cell["to"], cell["low"], cell["high"], cell["density"]) for cell in cells]
    assert found == [(0, 10, -1.0, 0.0, 0.25), (0, 10, 0.0, 0.5, 1.5), (10, 30, 0.0, 0.5, 2.0)]
    for cell in cells:
        assert cell["density"] * (cell["high"] - cell["low"]) <= 1


def test_spread_keeps_first_and_last() -> None:
    rows = [{"step": step} for step in range(1, 101)]
    assert [row["step"] for row in mirrored_figures._spread(rows, 4)] == [1, 34, 67, 100]
    assert mirrored_figures._spread(rows[:4], 4) == rows[:4]
    assert mirrored_figures._spread([], 4) == []


def test_rank_groups_are_named_by_their_ranks() -> None:
    assert rank_labels({"rank_ends": [1, 2, 4, 8]}) == ["1", "2", "3–4", "5–8", ">8"]
