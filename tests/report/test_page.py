"""The page as a document: complete in itself, safe, and saying what the files say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import vl_convert

from contrast.records import read_rows
from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from tests.report.reading import Page, every
from tests.report.synthetic import Shape, config_of, write_rows, write_run

FIGURES = ["score-densities", "score-separation", "training-loss", "knn-accuracy", "learning-rate"]


def page_of(*paths: Path) -> Page:
    return Page(build_page(read_runs([RunFolder(path) for path in paths])))


def test_nothing_on_the_page_points_elsewhere(page_of_two: str) -> None:
    page = Page(page_of_two)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data", "background"):
            target = attributes.get(name)
            assert target is None or target.startswith("#") or target == "data:,", f"<{tag} {name}={target!r}>"
    style = page_of_two[page_of_two.index("<style>") : page_of_two.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    own_script = page.scripts[2]
    assert not re.search(r"\bfetch\(|XMLHttpRequest|import\(|https?://(?!www\.w3\.org/2000/svg)", own_script)


def test_the_browser_is_forbidden_to_ask_for_anything(page: str) -> None:
    (policy,) = [meta for meta in Page(page).named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in (policy["content"] or "")
    assert "http" not in (policy["content"] or "")


def test_specifications_name_their_data_and_no_address(page_of_two: str) -> None:
    keys = dict(every(Page(page_of_two).data["figures"]))
    assert "url" not in keys
    assert "$schema" not in keys
    assert "http" not in json.dumps(Page(page_of_two).data)


def test_the_library_is_there_once(page_of_two: str) -> None:
    page = Page(page_of_two)
    assert len(page.scripts) == 3
    assert page_of_two.count("window.vegaEmbed") == 1


def test_a_page_of_200_snapshots_is_light(page: str) -> None:
    assert len(page.encode()) < 2_000_000


def test_the_same_files_make_the_same_page(run: Path, page: str) -> None:
    assert build_page(read_runs([RunFolder(run)])) == page


def test_scores_arrive_unchanged(run: Path, page: str) -> None:
    rows = read_rows(run / "scores.jsonl")
    (shown,) = Page(page).data["figures"]["score-densities"]["runs"]
    assert shown["edges"] == rows[0]["edges"]
    assert shown["step"] == [row["step"] for row in rows[1:]]
    assert shown["positive"]["counts"] == [row["positive"]["counts"] for row in rows[1:]]
    real = [counts is not None for counts in shown["negative"]["counts"]]  # none of a queue's random start
    assert real == sorted(real)
    assert real[-1]
    for counts, row in zip(shown["negative"]["counts"], rows[1:], strict=True):
        assert counts in (None, row["negative"]["counts"])


def test_every_figure_has_title_reading_downloads_and_data(page: str) -> None:
    parsed = Page(page)
    assert list(parsed.data["figures"]) == FIGURES
    assert [figure["data-figure"] for figure in parsed.named("figure")] == FIGURES
    assert len([button for button in parsed.named("button") if "data-download" in button]) == 2 * len(FIGURES)
    for figure in parsed.data["figures"].values():
        assert figure["title"] in parsed.text
        lengths = {len(column) for table in figure["tables"].values() for column in table.values()}
        assert len(lengths) <= 1, "columns of unequal length"


def test_the_top_says_what_the_run_is(page: str) -> None:
    parsed = Page(page)
    assert "SimCLR with InfoNCE at temperature 0.2 on Digits." in parsed.text
    for said in ("ResNet (depth 18, width 16)", "96.1\xa0%", "interval 94.7–97.2\xa0%", "--config", "19,999 steps"):
        assert said in parsed.text
    assert parsed.rows[-1][:4] == ["Linear probeprobe-all-3f1c22aa01", "epoch 99", "96.1\xa0%", "94.7–97.2\xa0%"]
    assert parsed.rows[-1][4:6] == ["—", "no baselines measured"], "a file of an earlier version"
    assert "LBFGS" in parsed.rows[-1][6], "the protocol stands beside the accuracy"


@pytest.mark.parametrize("figure", [name for name in FIGURES if name != "score-densities"])
def test_line_charts_draw_their_lines(page_of_two: str, figure: str) -> None:
    found = Page(page_of_two).data["figures"][figure]
    tables = {
        name: [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        for name, table in found["tables"].items()
    }
    for chart in found["charts"].values():
        spec = {**chart["spec"], "datasets": tables, "width": 600}
        svg = vl_convert.vegalite_to_svg(json.loads(json.dumps(spec).replace("theme:", "#0")), vl_version="6.4")
        lines = re.findall(r'aria-roledescription="line mark"[^>]* d="([^"]*)"', svg)
        assert len([line for line in lines if line.count("L") > 20]) >= 2, "one line a run"


def test_settings_that_differ_are_the_table(page_of_two: str) -> None:
    rows = Page(page_of_two).rows
    table = rows[rows.index(["Setting", "simclr", "dcl"]) + 1 :]
    assert table == [
        ["seed_everything", "0", "1"],
        ["model.init_args.loss.init_args.objective.class_path", "contrast.losses.InfoNCE", "contrast.losses.DCL"],
        ["model.init_args.loss.init_args.temperature", "0.2", "0.1"],
        ["trainer.max_epochs", "100", "40"],
    ]


def test_runs_share_axes_and_have_colours_of_their_own(page_of_two: str) -> None:
    figures = Page(page_of_two).data["figures"]
    assert [run["name"] for run in figures["score-densities"]["runs"]] == ["simclr", "dcl"]
    assert set(figures["training-loss"]["tables"]["loss"]["run"]) == {"simclr", "dcl"}
    scales = [value for key, value in every(figures["training-loss"]["charts"]) if key == "color" and "scale" in value]
    assert scales[0]["scale"] == {"domain": ["simclr", "dcl"], "range": ["theme:run-0", "theme:run-1"]}


def test_a_run_that_has_just_started_says_what_is_missing(tmp_path: Path) -> None:
    for name in ("config.yaml", "metrics.jsonl", "scores.jsonl"):
        (tmp_path / name).write_text("")
    page = page_of(tmp_path)
    assert page.data["figures"] == {}
    for missing in (
        "config.yaml is empty",
        "metrics.jsonl has no rows",
        "scores.jsonl has no histograms",
        "train/loss",
    ):
        assert missing in page.text


def test_a_method_without_negatives_has_positives_alone(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path / "byol", Shape(method="BYOL", has_negatives=False, snapshots=10)))
    charts = [part["data-chart"] for part in page.named("div") if "data-chart" in part]
    assert charts == ["positive", "histogram", "loss", "accuracy", "rate"]
    assert "recorded no negative pairs" in page.text


def test_runs_lacking_a_figure_are_named_beside_it(run: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "metrics.jsonl", [{"step": 1, "epoch": 0, "train/loss": None}])
    (tmp_path / "config.yaml").write_text(json.dumps(config_of(Shape())))
    page = page_of(run, tmp_path)
    assert f"{tmp_path.name}: no loss logged yet." in page.text
    assert f"{tmp_path.name}: no score histograms yet." in page.text


def test_hostile_names_and_values_stay_text(tmp_path: Path) -> None:
    attack = '"><img src=x onerror=alert(1)>'
    path = write_run(tmp_path / attack, Shape(snapshots=4))
    config = config_of(Shape()) | {"comment": "</script><script>alert(1)</script><!--", attack: attack}
    (path / "config.yaml").write_text(json.dumps(config))
    evil = {"command": attack, "top1": 0.5, "created": attack, "protocol": {attack: "</dl><script>alert(1)"}}
    (path / "evaluations" / "evil.json").write_text(json.dumps(evil))
    (path / "summary.json").write_text(json.dumps({attack: attack}))
    for page in (page_of(path), page_of(path, write_run(tmp_path / "plain", Shape(snapshots=4)))):
        assert len(page.scripts) == 3
        assert "<" not in page.scripts[0], "the data's script element can neither end early nor swallow the next"
        assert not page.named("img")
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert page.text.count(attack) > 3
