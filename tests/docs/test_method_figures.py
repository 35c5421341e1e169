"""The figures of docs/methods show what the pairs say, and the pages, their index and their figures go together."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from contrast import Pairs
from docs.make.method_figures import byol, debiased, digits, mocov3, nearest_negatives, pair_matrix, simclr
from docs.make.method_figures.__main__ import FOLDER, NAMES
from docs.make.method_figures.drawing import svg

DOCS = Path(__file__).resolve().parents[2] / "docs" / "methods"
PAGES = sorted(page for page in DOCS.glob("*.md") if page.name != "README.md")
COLOURS = {colour: kind for kind, colour in pair_matrix.KINDS.items()}


def cells(drawing: str) -> Counter[str]:
    """How many squares of each kind are drawn; a legend's symbols are drawn on request elsewhere."""
    root = ElementTree.fromstring(drawing)
    groups = [group for group in root.iter() if "mark-rect" in group.get("class", "")]
    fills = [path.get("fill", "") for group in groups for path in group.iter() if path.tag.endswith("path")]
    return Counter(COLOURS[fill] for fill in fills)


def test_simclrs_matrices_are_its_pairs() -> None:
    distinct = {"positive": 10, "the query itself": 10, "negative": 80}
    twice = {"positive": 10, "the query itself": 10, "negative": 72, "left out: own sample": 8}
    assert cells(svg(simclr.draw())) == Counter(distinct) + Counter(twice)


def test_moco_v3s_matrices_are_its_pairs() -> None:
    drawn = cells(svg(mocov3.draw()))
    assert drawn == Counter({"positive": 18, "negative": 3 * 30 - 2, "left out: own sample": 2})


def test_a_queues_random_start_and_own_rows_are_told_apart() -> None:
    rows = pair_matrix.unit_rows(7)
    index, key_index = torch.tensor([4, 5]), torch.tensor([4, 6, -1])
    pairs = Pairs(rows[:2], rows[2:4], rows[4:], index, key_index, placeholder=torch.tensor([False, False, True]))
    kinds = list(pair_matrix.KINDS)
    told = [[kinds[place] for place in row] for row in pair_matrix.kinds_of(pairs).tolist()]
    assert told == [
        ["positive", "left out: own sample", "negative", "negative, random start"],
        ["positive", "negative", "negative", "negative, random start"],
    ]


def test_a_drawing_has_its_words_and_a_light_background() -> None:
    drawing = svg(byol.draw())
    words = {text.text for text in ElementTree.fromstring(drawing).iter() if text.tag.endswith("text")}
    assert {"The target slows down", "Where the gradient goes", "share of the run"} <= words
    assert 'fill="#ffffff"' in drawing[:600]


def test_the_pull_on_negatives_is_the_gradient() -> None:
    rows = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    pairs = Pairs(rows[:1], rows[1:2], rows[2:], torch.tensor([0]), torch.arange(1, 5))
    pull = debiased.pull(debiased.HCL(0.0, 0.0), pairs)
    logits = torch.cat([(rows[:1] * rows[1:2]).sum()[None], rows[2:] @ rows[0]]) / debiased.TEMPERATURE
    torch.testing.assert_close(pull, logits.softmax(dim=0)[1:] / debiased.TEMPERATURE)


def test_the_share_of_the_querys_class_is_counted_rank_by_rank() -> None:
    first, second = torch.nn.functional.normalize(
        torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    labels = torch.arange(30) % 3
    rates = nearest_negatives.same_class(digits.Embedded(first, second, torch.arange(30), labels), 4)
    hits = [0] * 4
    for i in range(30):
        others = sorted((j for j in range(30) if j != i), key=lambda j: -float(first[i] @ second[j]))
        for rank, j in enumerate(others[:4]):
            hits[rank] += int(labels[j] == labels[i])
    assert rates.tolist() == pytest.approx([each / 30 for each in hits])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_figure_its_place_in_the_index_and_room_for_measurements(page: Path) -> None:
    text = page.read_text()
    assert f"](../images/methods/{page.stem}.svg)" in text
    assert f"]({page.name})" in (DOCS / "README.md").read_text()
    assert page.stem in NAMES
    opening, closing = f"<!-- measured:{page.stem} -->", "<!-- /measured -->"
    assert text.count(opening) == text.count(closing) == 1
    measured = text[text.index(opening) + len(opening) : text.index(closing)]
    tables = (DOCS.parent / "compare.md").read_text()
    assert all(line in tables for line in measured.splitlines() if line.startswith("|")), "a number of its own"


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_what_pages_name_is_there() -> None:
    root = DOCS.parents[1]
    for page in DOCS.glob("*.md"):
        for named in re.findall(r"((?:tests|configs|benchmarks|studies)/[\w/.]+\.(?:py|yaml))", page.read_text()):
            assert (root / named).exists(), f"{page.name} names {named}"


def test_every_drawing_belongs_to_a_page_and_is_small() -> None:
    drawings = sorted(FOLDER.glob("*.svg"))
    assert [drawing.stem for drawing in drawings] == sorted(NAMES) == [page.stem for page in PAGES]
    for drawing in drawings:
        assert ElementTree.fromstring(drawing.read_text()).tag.endswith("svg")
        assert drawing.stat().st_size < 150_000, f"{drawing.name} is too large: thin its points"
