"""Records without a figure of their own: drawn whatever wrote them, once, within bounds, and never a claimed one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pytest

from contrast.records import read_rows
from contrast.report import build_page, read_runs
from contrast.report.charts import Figure
from contrast.report.figures.other import CLAIMS, LONGEST, MOST_CHARTS, other_records
from contrast.report.page import BETWEEN, SECTIONS
from contrast.run_folder import RunFolder
from tests.report.reading import Page
from tests.report.synthetic import EDGES, Shape, write_rows, write_run

SMALL = Shape(snapshots=20, epochs=4)
RUNS = Path(__file__).parents[1] / "doctor/runs"


def histogram(step: int, bins: int = 20) -> dict[str, Any]:
    margins = np.random.default_rng(step).normal(min(0.5, step / 1000), 0.3, 400)
    counts, edges = np.histogram(margins.clip(-1, 1.5), bins, (-1, 1.5))
    return {"counts": counts.tolist(), "edges": edges.tolist(), "mean": float(margins.mean()), "std": 0.3}


def with_records(path: Path, records: Any, shape: Shape = SMALL, metrics: Any = None) -> Path:
    """A run whose rows of scores.jsonl have further records, and whose metrics.jsonl has further rows."""
    write_run(path, shape)
    header, *rows = read_rows(path / "scores.jsonl")
    write_rows(path / "scores.jsonl", [header, *({**row, **records(row["step"])} for row in rows)])
    if metrics is not None:
        more = [{"step": row["step"], "epoch": 0, **metrics(row["step"])} for row in rows]
        write_rows(path / "metrics.jsonl", [*read_rows(path / "metrics.jsonl"), *more])
    return path


def drawn(*paths: Path) -> list[Figure]:
    return other_records(read_runs([RunFolder(path) for path in paths]))


def lines(figure: Figure) -> dict[str, set[str]]:
    """Names of the lines of each line chart, by its heading."""
    labels = {chart.name: chart.label for chart in figure.charts}
    found: dict[str, set[str]] = {}
    table = figure.tables.get("records", {})
    for chart, kind in zip(table.get("chart", []), table.get("kind", []), strict=True):
        found.setdefault(labels[chart], set()).add(kind)
    return found


def margins(step: int) -> dict[str, Any]:
    return {"margins": {"mean": step / 1e4, "by_kind": {"shared": 0.2, "mined": 0.1}, "over": histogram(step)}}


def test_what_no_figure_claims_is_drawn(tmp_path: Path) -> None:
    (figure,) = drawn(with_records(tmp_path / "run", margins))
    assert figure.title == "margins"
    assert lines(figure) == {
        "margins / mean": {"mean"},
        "margins / by_kind": {"shared", "mined"},
        "margins / over": {"mean", "std"},
    }
    rows = read_rows(tmp_path / "run/scores.jsonl")[1:]
    table = figure.tables["records"]
    means = [value for value, label in zip(table["value"], table["chart"], strict=True) if label == "chart0"]
    assert means == pytest.approx([row["margins"]["mean"] for row in rows])
    (heat,) = [chart for chart in figure.charts if chart.label == "Histogram of margins / over"]
    cells = figure.tables[heat.spec["data"]["name"] if "data" in heat.spec else heat.spec["layer"][0]["data"]["name"]]
    of_step = [place for place, step in enumerate(cells["step"]) if step == rows[3]["step"]]
    counts, edges = (rows[3]["margins"]["over"][key] for key in ("counts", "edges"))
    expected = [count / sum(counts) / (edges[place + 1] - edges[place]) for place, count in enumerate(counts) if count]
    assert [cells["density"][place] for place in of_step] == pytest.approx(expected, rel=1e-5)
    assert [cells["low"][place] for place in of_step] == pytest.approx(
        [edge for edge, count in zip(edges, counts, strict=False) if count], rel=1e-5, abs=1e-9
    )


def test_a_run_without_further_records_has_no_such_section(page: str) -> None:
    assert "Other records" not in page


def test_the_page_has_the_section_last(tmp_path: Path) -> None:
    paths = [with_records(tmp_path / name, margins) for name in ("a", "b")]
    page = Page(build_page(read_runs([RunFolder(path) for path in paths])))
    headings = [attributes["id"] for attributes in page.named("section")]
    assert headings[-2:] == ["other", "settings"] or headings[-1] == "other"
    assert headings.index("other") > headings.index(BETWEEN.name)
    assert "#other" in [attributes.get("href") for attributes in page.named("a")]
    figure = page.data["figures"]["other-0-margins"]
    assert set(figure["tables"]["records"]["run"]) == {"a", "b"}
    assert sum("map" in name for name in figure["charts"]) == 2, "one map a run"


def test_a_scalar_of_both_files_is_drawn_once(tmp_path: Path) -> None:
    path = with_records(tmp_path / "run", margins, metrics=lambda step: {"margins/mean": 7.0, "mine/extra": 2.0})
    first, second = drawn(path)
    assert "margins / mean" in lines(first)
    assert 7.0 not in first.tables["records"]["value"], "of the file with the whole row"
    assert lines(second) == {"mine / extra": {"extra"}}


def test_records_of_other_versions_are_drawn_by_their_form(tmp_path: Path) -> None:
    """A number and a histogram at the top of a row, beside known ones, and without edges."""

    def records(step: int) -> dict[str, Any]:
        of_scores = {"counts": [0] * 50 + [3] * 50, "mean": 0.5}
        known = {
            "embedding": {"isotropy": 0.3, "rank_me": 4.0, "std": [0.1] * 7},
            "gradient": {"norm": 2.0, "pull": 1.0},
        }
        return {"novelty": 0.25, "extra_positive": of_scores, "ages_of": {"counts": [1, 2, 3]}, **known}

    figures = {figure.title: figure for figure in drawn(with_records(tmp_path / "run", records))}
    assert set(figures) == {"novelty", "extra_positive", "ages_of", "embedding", "gradient"}
    assert lines(figures["embedding"]) == {"embedding / isotropy": {"isotropy"}}
    assert lines(figures["gradient"]) == {"gradient / norm": {"norm"}}
    by_header = figures["extra_positive"].tables["cells0-0"]
    assert (min(by_header["low"]), max(by_header["high"])) == (EDGES[50], EDGES[100])
    by_place = figures["ages_of"]
    assert sorted(set(by_place.tables["cells0-0"]["low"])) == [0.0, 1.0, 2.0]
    assert "bin" in json.dumps(by_place.charts[0].spec)


def test_numbers_of_unlike_size_have_charts_of_their_own(tmp_path: Path) -> None:
    def records(step: int) -> dict[str, Any]:
        return {"mine": {"share": 0.5, "other": 0.1, "count": 4000.0, "zero": 0}}

    (figure,) = drawn(with_records(tmp_path / "run", records))
    kinds = list(lines(figure).values())
    assert sorted(map(sorted, kinds)) == [["count"], ["other", "share", "zero"]]


def test_of_very_many_records_some_are_drawn_and_the_rest_is_counted(tmp_path: Path) -> None:
    def records(step: int) -> dict[str, Any]:
        return {f"mine{place}": {"x": {f"y{each}": 10.0**each for each in range(0, 8, 2)}} for place in range(30)}

    figures = drawn(with_records(tmp_path / "run", records))
    assert sum(len(figure.charts) for figure in figures) == MOST_CHARTS
    (note,) = [note for figure in figures for note in figure.notes if "for want of room" in note]
    assert note.startswith(f"{30 * 4 - MOST_CHARTS} further records are not drawn for want of room: mine6 / x / y0, ")
    assert "and 91 more" in note


def test_lists_are_named(tmp_path: Path) -> None:
    (figure,) = drawn(with_records(tmp_path / "run", lambda step: {"mine": {"a": 1.0, "places": [1, 2]}}))
    assert (
        figure.notes[-1]
        == "1 further record is not drawn, being a list of numbers: mine / places. The files of the run have them."
    )


def test_what_a_long_run_weighs_is_bounded(tmp_path: Path) -> None:
    def records(step: int) -> dict[str, Any]:
        return {"mine": {f"h{place}": histogram(step, 1000) for place in range(6)}}

    (figure,) = drawn(with_records(tmp_path / "run", records, Shape(snapshots=300, epochs=20)))
    assert sum(len(cells["low"]) for name, cells in figure.tables.items() if "cells" in name) <= 45_000


def test_broken_records_are_left_out(tmp_path: Path) -> None:
    broken = [
        {"mine": {"counts": []}},
        {"mine": {"counts": [None, "a"], "edges": [0, 1, 2]}},
        {"mine": {"counts": [-1, 2], "edges": [0, 1, 2]}},
        {"mine": None, "other": True, "third": "text", "": {"": 1.0}},
        {"mine": {"counts": [1, 2], "edges": [0, float("nan"), 2]}},
    ]
    place = iter(range(1000))
    path = with_records(tmp_path / "run", lambda step: broken[next(place) % len(broken)])
    titles = [figure.title for figure in drawn(path)]
    assert set(titles) <= {"mine", ""}
    assert build_page(read_runs([RunFolder(path)]))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    attack = '"><img src=x onerror=alert(1)>'
    long = "x" * 500

    def records(step: int) -> dict[str, Any]:
        return {attack: {attack: {attack: 1.0}, "h": histogram(step)}, long: {long: 2.0}, "a/b": {"c'\\": 1.0}}

    path = with_records(tmp_path / "run", records)
    page = Page(build_page(read_runs([RunFolder(path)])))
    assert not page.named("img")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert max(len(figure.title) for figure in drawn(path)) <= LONGEST
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(set(ids)) == len(ids)


def test_claims_are_of_figures_that_there_are(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", SMALL)
    runs = read_runs([RunFolder(path)])
    names = {figure(runs).name for section in SECTIONS for figure in section.figures}
    assert set(CLAIMS) <= names


@pytest.mark.parametrize("path", sorted(RUNS.iterdir()), ids=lambda path: path.name)
def test_what_a_run_records_by_itself_has_figures(path: Path) -> None:
    """Rows of real runs of many methods: a new key of a built-in observer needs a figure, or shows up here."""
    assert [figure.title for figure in drawn(path)] == []


def test_every_chart_is_valid_vega_lite(tmp_path: Path) -> None:
    paths = [with_records(tmp_path / name, margins) for name in ("a", "b")]
    for some in (paths[:1], paths):
        for figure in drawn(*some):
            for chart in figure.charts:
                alt.LayerChart.from_dict(chart.spec, validate=True)
