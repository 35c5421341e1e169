"""Figures that mislead nobody: robust limits, no random keys among negatives, shares per negative, axes and words."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pytest
import vl_convert
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.callbacks.mirrored_figures import PER_NEGATIVE, _rank_curves
from contrast.commands.demo import table as demo_table
from contrast.report import build_page, read_runs
from contrast.report.chart_kinds import Kind, clipped_cells, heat_chart, kinds_chart
from contrast.report.charts import FAR, Axis, Figure, Table, axis_within, line_chart, shared_top
from contrast.report.curves import per_negative, rank_labels, sizes_of_groups
from contrast.report.figures.negatives import ALIKE, hardness_profile
from contrast.report.figures.scores import pretext_accuracy, score_densities, score_separation
from contrast.report.figures.training import accuracy_by_epoch, knn_accuracy, training_loss
from contrast.report.overview import gain_in_words, key_numbers, summary_in_words
from contrast.report.page import BETWEEN, SECTIONS
from contrast.report.run_record import RunRecord, without_queue_start
from contrast.run_folder import RunFolder
from tests.report.reading import Page
from tests.report.synthetic import EDGES, Shape, config_of, write_rows, write_run

SMALL = Shape(snapshots=20, epochs=4)
HEADER: dict[str, Any] = {"format": 2, "edges": EDGES, "rank_ends": [1, 2, 4, 8, 16, 32, 64, 128]}
FINITE = st.floats(-1e6, 1e6).map(lambda value: round(value, 6))


def read(path: Path) -> RunRecord:
    (run,) = read_runs([RunFolder(path)])
    return run


def side(places: list[int], count: int = 100) -> dict[str, Any]:
    """A histogram with all its scores in these bins."""
    counts = [count if place in places else 0 for place in range(len(EDGES) - 1)]
    middles = [EDGES[place] + 0.01 for place in places]
    return {"counts": counts, "mean": float(np.mean(middles)), "std": float(np.std(middles)) + 0.01}


# --- limits ---


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=6))
def test_no_run_sets_the_scale_of_all(tops: list[float]) -> None:
    top = shared_top(tops)
    assert top <= max(tops)
    assert all(own >= top / FAR / (1 + 1e-9) for own in tops), "each run has a third of the height"
    assert top == max(tops) or top == pytest.approx(FAR * min(tops))


def test_one_collapsed_run_fades_no_other_and_is_said(tmp_path: Path) -> None:
    write_run(tmp_path / "healthy", SMALL)
    write_run(tmp_path / "collapsed", SMALL)
    rows = [{"step": step, "epoch": 0, "positive": side([99]), "negative": side([99])} for step in range(1, 20)]
    write_rows(tmp_path / "collapsed/scores.jsonl", [HEADER, *rows])
    runs = read_runs([RunFolder(tmp_path / name) for name in ("healthy", "collapsed")])
    alone, both = (score_densities(some) for some in (runs[:1], runs))
    assert isinstance(alone, Figure)
    assert isinstance(both, Figure)
    assert both.extra["peak"] <= FAR * alone.extra["peak"]
    assert any(re.match(r"collapsed: 38 of 38 histograms are denser than the scale's end of .*, up to 50\.", note)
               for note in both.notes)  # fmt: skip
    (ramp,) = {json.dumps(layer["encoding"]["color"]["scale"]["domain"]) for chart in both.charts[:2]
               for layer in chart.spec["layer"] if layer["mark"]["type"] == "rect"}  # fmt: skip
    assert json.loads(ramp) == [0, both.extra["peak"]]


def test_a_few_peaks_pale_no_other_cell_of_a_heat_map_and_are_said() -> None:
    cells: Table = {"from": [0.0] * 1000, "to": [1.0] * 1000, "rank": ["1"] * 1000, "v": [1.0] * 997 + [100.0] * 3}
    value = Axis("v", "density", "~g")
    spec = heat_chart("t", Axis("rank", "rank", ""), value, ["1"], [cells])
    assert spec["layer"][0]["encoding"]["color"]["scale"]["domain"] == [0, 1.0]
    assert clipped_cells(value, {"a": cells}) == ("a: colour ends at 1; 3 of its cells reach up to 100.",)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1, 10), min_size=60, max_size=80), st.floats(1e3, 1e300))
def test_a_spike_or_a_diverged_run_flattens_nothing(values: list[float], far: float) -> None:
    """A spike within a run, and a run that diverged beside others; both are said with their numbers."""
    spike: Table = {"run": ["a"] * (len(values) + 1), "loss": [*values, far]}
    axis, notes = axis_within(Axis("loss", "loss", "~g"), spike)
    if max(values) - min(values) > 0.5 and sorted(values)[-9] - sorted(values)[8] > 0.3:
        assert axis.high is not None
        assert axis.high < 100
        assert notes[0].startswith("a: 1 of its values lie beyond the axis (")
    both: Table = {"run": ["a"] * len(values) + ["b"] * 60, "loss": [*values, *[1e5 * far] * 60]}
    axis, notes = axis_within(Axis("loss", "loss", "~g"), both)
    assert axis.high is not None
    assert axis.high < 20
    assert notes[0].startswith("b: 60 of its values lie beyond")


@given(st.lists(FINITE, min_size=2, max_size=40), st.booleans())
def test_few_values_of_one_run_are_all_within_the_axis(values: list[float], zero: bool) -> None:
    axis, notes = axis_within(Axis("v", "v", "~g", zero=zero), {"run": ["a"] * len(values), "v": list(values)})
    assert notes == ()
    if axis.low is not None and axis.high is not None:
        assert axis.low < min(values) == max(values) < axis.high, "limits are for the single value only"


def test_what_is_beyond_the_loss_axis_stands_in_its_note_and_its_csv(tmp_path: Path) -> None:
    write_run(tmp_path / "run", SMALL)
    rows = [{"step": step, "epoch": 0, "train/loss": 1e30 if step == 50 else 2 + step % 7 / 7} for step in range(99)]
    write_rows(tmp_path / "run/metrics.jsonl", rows)
    figure = training_loss([read(tmp_path / "run")])
    assert isinstance(figure, Figure)
    assert max(figure.tables["loss"]["loss"]) == 1e30
    assert any("values lie beyond the axis" in note for note in figure.notes)
    domains = [layer["encoding"]["y"].get("scale", {}).get("domain") for layer in figure.charts[0].spec["layer"]]
    assert any(domain and domain[1] < 10 for domain in domains)
    assert all(layer["mark"]["clip"] for layer in figure.charts[0].spec["layer"])


# --- ticks ---


def ticks(spec: dict[str, Any], rows: list[dict[str, Any]]) -> list[list[str]]:
    """The labels of each axis, as the library writes them."""
    drawn = json.loads(json.dumps({**spec, "width": 320, "datasets": {"t": rows}}))
    scene = vl_convert.vegalite_to_scenegraph(drawn)["scenegraph"]
    found: list[list[str]] = []

    def visit(item: Any) -> None:
        if isinstance(item, dict):
            if item.get("role") == "axis-label":
                found.append([str(each["text"]) for each in item["items"]])
            for part in item.values():
                visit(part)
        elif isinstance(item, list):
            for part in item:
                visit(part)

    visit(scene)
    return found


SPANS = [
    (0.0, 0.11),
    (0.05, 0.14),
    (52.88, 52.88),
    (0.0012, 0.0013),
    (0.0, 0.0),
    (1e-6, 3e-6),
    (98.9, 99.1),
    (-3, 4000),
]


@pytest.mark.parametrize("form", ["~g", ".0%", ".1%", ",d"])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("span", SPANS)
def test_no_axis_has_a_label_twice_or_a_single_tick(span: tuple[float, float], zero: bool, form: str) -> None:
    values = [span[0], sum(span) / 2, span[1]]
    if form == ",d":
        values = [math.floor(value) for value in values]
    columns: Table = {"run": ["a"] * 3, "kind": ["k"] * 3, "step": [1, 2, 3], "v": values}
    axis, _ = axis_within(Axis("v", "value", form, zero=zero), columns)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    step = Axis("step", "step", ",d")
    for spec in (line_chart("t", step, axis, ["a"]), kinds_chart("t", step, axis, ["a"], [Kind("k", "run-0")])):
        across, up = ([label for label in labels if label] for labels in ticks(spec, rows))
        assert across == ["1", "2", "3"]
        assert len(set(up)) == len(up) > 1, (span, up)


def test_a_line_of_one_point_is_seen(tmp_path: Path) -> None:
    write_run(tmp_path / "run", SMALL)
    row = {"step": 3, "epoch": 0, "proxy/accuracy": 0.4, "train/loss": 1.0}
    write_rows(tmp_path / "run/metrics.jsonl", [row])
    figure = pretext_accuracy([read(tmp_path / "run")])
    assert isinstance(figure, Figure)
    assert figure.charts[0].spec["layer"][0]["mark"]["point"]


@pytest.mark.parametrize("fixture", ["run", "other_run"])
def test_every_chart_is_valid_vega_lite(fixture: str, request: pytest.FixtureRequest) -> None:
    """The page leaves validation out, which takes seconds."""
    records = [read(request.getfixturevalue(fixture)), read(request.getfixturevalue("other_run"))]
    for runs in (records[:1], records):
        for section in (*SECTIONS, BETWEEN) if len(runs) > 1 else SECTIONS:
            for make in section.figures:
                figure = make(runs)
                for chart in figure.charts if isinstance(figure, Figure) else ():
                    alt.LayerChart.from_dict(chart.spec, validate=True)


# --- a queue's random start ---


def row_of(step: int, placeholders: float | None = None) -> dict[str, Any]:
    """A row of a MoCo run; at the first step its queue holds random rows only."""
    apart = {"auc": 1.0, "d_prime": 11.0, "overlap": 0.0} if step == 1 else {"auc": 0.7, "d_prime": 0.8, "overlap": 0.6}
    row: dict[str, Any] = {
        "step": step, "epoch": 0, "positive": side([90]), "negative": side([50 if step == 1 else 80]),
        "separation": apart, "embedding": {"uniformity": -1.0, "margin": {"mean": 0.5}},
        "hardness": {"score": [0.1] * 9, "gradient": [1 / 9] * 9},
        "gradient": {"negatives": 512.0, "pull": 0.9, "push": 0.9, "effective": {"mean": 9.0}},
        "coupling": {"mean": 0.5},
    }  # fmt: skip
    return row if placeholders is None else {**row, "placeholders": {"mean": placeholders}}


def queue_config(size: int | None, **trainer: Any) -> dict[str, Any]:
    config = config_of(Shape(method="MoCo"))
    if size is not None:
        config["model"]["init_args"]["bank"] = {"class_path": "contrast.banks.KeyQueue", "init_args": {"size": size}}
    return {**config, "trainer": {**config["trainer"], **trainer}}


@pytest.mark.parametrize(
    ("config", "until"),
    [
        (queue_config(512), 2),
        (queue_config(513), 3),
        (queue_config(512, devices=2), 1),
        (queue_config(512, accumulate_grad_batches=2), 1),
        (queue_config(None), 256),
        (config_of(Shape()), None),
        ({}, None),
        ({"model": {"class_path": "contrast.methods.MoCo", "init_args": {"bank": 3}}}, None),
    ],
)
def test_rows_from_before_placeholders_were_marked_lose_a_queues_random_start(config: Any, until: int | None) -> None:
    rows = [row_of(step) for step in (1, 2, 3, 300)]
    kept, last = without_queue_start(rows, config)
    assert [("negative" in row) for row in kept] == [until is None or row["step"] > until for row in rows]
    assert last == (None if until is None else max(row["step"] for row in rows if row["step"] <= until))
    for row in kept:
        assert "positive" in row
        assert ("margin" in row["embedding"]) == ("coupling" in row) == ("negative" in row)


def test_marked_rows_keep_their_negatives_and_lose_what_the_loss_says(tmp_path: Path) -> None:
    write_run(tmp_path / "run", Shape(snapshots=2, epochs=1, method="MoCo"))
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(queue_config(512)))
    first = {
        key: part for key, part in row_of(1, 512.0).items() if key in ("step", "epoch", "positive", "placeholders")
    }
    write_rows(tmp_path / "run/scores.jsonl", [HEADER, first, row_of(2, 256.0), row_of(3), row_of(4)])
    run = read(tmp_path / "run")
    assert run.queue_start == 2
    assert [("negative" in row, "coupling" in row, "pull" in row.get("gradient", {})) for row in run.observed] == [
        (False, False, False), (True, False, False), (True, True, True), (True, True, True),
    ]  # fmt: skip
    for make in (score_densities, score_separation, hardness_profile, training_loss):
        figure = make([run])
        assert isinstance(figure, Figure)
        assert any(note.startswith("run: up to step 2 ") for note in figure.notes), make


def test_an_old_runs_separation_starts_where_its_queue_is_filled(tmp_path: Path) -> None:
    """d′ of 11 and AUC 1.0 at step 1 flattened all that followed."""
    write_run(tmp_path / "run", Shape(snapshots=2, epochs=1, method="MoCo"))
    (tmp_path / "run/config.yaml").write_text(yaml.safe_dump(queue_config(512)))
    write_rows(tmp_path / "run/scores.jsonl", [HEADER, *(row_of(step) for step in range(1, 9))])
    figure = score_separation([read(tmp_path / "run")])
    assert isinstance(figure, Figure)
    assert min(figure.tables["separation"]["step"]) == 3
    assert max(figure.tables["auc"]["value"]) == 0.7
    assert max(figure.tables["separation"]["d_prime"]) == pytest.approx(20), "80 at the first step"


# --- shares per negative ---


@given(st.integers(1, 5000))
def test_an_even_gradient_is_a_flat_line_whatever_the_groups_sizes(negatives: int) -> None:
    sizes = sizes_of_groups(HEADER, negatives)
    assert sum(sizes) == negatives
    assert len(sizes) == len(rank_labels(HEADER))
    shares = [size / negatives for size in sizes if size]
    assert per_negative(shares, HEADER, negatives) == pytest.approx([1 / negatives] * len(shares))


@given(st.lists(st.floats(0, 1), min_size=9, max_size=9), st.integers(129, 9999))
def test_shares_per_negative_sum_up_to_the_groups(shares: list[float], negatives: int) -> None:
    alone = per_negative(shares, HEADER, negatives)
    assert [(one or 0.0) * size for one, size in zip(alone, sizes_of_groups(HEADER, negatives), strict=True)] == (
        pytest.approx(shares)
    )
    assert per_negative(shares, HEADER, None)[-1] is None, "nobody knows how many are left"


def test_gradient_by_rank_draws_the_share_of_one_negative(tmp_path: Path) -> None:
    write_run(tmp_path / "run", Shape(snapshots=2, epochs=1))
    sizes = sizes_of_groups(HEADER, 512)
    row = {**row_of(3), "hardness": {"score": [0.1] * 9, "gradient": [size / 512 for size in sizes]}}
    write_rows(tmp_path / "run/scores.jsonl", [HEADER, row, {**row, "step": 4}])
    figure = hardness_profile([read(tmp_path / "run")])
    assert isinstance(figure, Figure)
    drawn = figure.tables["shares"]
    assert set(drawn["kind"]) == {"last tenth", ALIKE.name}
    assert drawn["per_negative"] == pytest.approx([1 / 512] * len(drawn["per_negative"]), rel=1e-5)
    assert figure.tables["cells0"]["per_negative"] == pytest.approx([1 / 512] * 18, rel=1e-5)
    assert "per negative" in figure.charts[1].spec["layer"][0]["encoding"]["y"]["title"]


def test_the_mirrored_figure_names_and_draws_ranks_as_the_page_does() -> None:
    sizes = sizes_of_groups(HEADER, 512)
    rows = [
        {**row_of(step), "hardness": {"score": [0.1] * 9, "gradient": [size / 512 for size in sizes]}}
        for step in (3, 4)
    ]
    spec = _rank_curves(HEADER["rank_ends"], rows)
    assert spec is not None
    for panel in spec["hconcat"]:
        assert panel["encoding"]["x"]["sort"] == rank_labels(HEADER)
        assert panel["encoding"]["x"]["sort"][-1] == ">128"
    (shares,) = (panel for panel in spec["hconcat"] if panel["encoding"]["y"]["title"] == PER_NEGATIVE)
    assert [each["value"] for each in shares["data"]["values"]] == pytest.approx([1 / 512] * 18)


# --- words ---


@pytest.mark.parametrize("epochs", [1, 3, 10])
def test_the_last_epoch_is_called_by_the_same_number_everywhere(epochs: int, tmp_path: Path) -> None:
    """Never "epoch 11" beside "12 of 12"."""
    write_run(tmp_path / "run", dataclasses.replace(SMALL, epochs=epochs))
    rows: list[dict[str, Any]] = [{"step": 0, "epoch": 0, "online/knn_top1": 0.1}]
    rows += [{"step": 5 * (each + 1), "epoch": each, "online/knn_top1": 0.5} for each in range(epochs)]
    write_rows(tmp_path / "run/metrics.jsonl", rows)
    run = read(tmp_path / "run")
    assert accuracy_by_epoch(run.metrics)[0] == list(range(epochs + 1))
    figure = knn_accuracy([run])
    assert isinstance(figure, Figure)
    assert figure.tables["accuracy"]["epoch"] == list(range(epochs + 1))
    text = Page(build_page([run])).text
    assert f"after epoch {epochs};" in text
    assert f"{epochs} of {epochs}" in text


def test_the_knn_while_training_is_shown_beside_its_baselines(tmp_path: Path) -> None:
    write_run(tmp_path / "run", SMALL)
    start = {"online/knn_top1": 0.7, "online/raw_input_knn_top1": 0.9, "online/majority_class": 0.1}
    rows = [{"step": 0, "epoch": 0, **start}, {"step": 5, "epoch": 0, "online/knn_top1": 0.8}]
    write_rows(tmp_path / "run/metrics.jsonl", rows)
    (card,) = (each for each in key_numbers(read(tmp_path / "run")) if each.label == "Online kNN, last")
    beside = "raw input 90.0 %, random weights 70.0 %, majority class 10.0 %"
    assert card.detail.replace("\N{NO-BREAK SPACE}", " ") == f"while training, after epoch 1; {beside}"


@given(st.tuples(*[st.floats(-1, 1)] * 3).map(sorted))
def test_a_gain_below_zero_is_called_a_loss(ends: list[float]) -> None:
    low, mean, high = ends
    said = gain_in_words([mean, low, high])
    assert said.startswith("gain" if low >= 0 else "loss" if high <= 0 else "no clear difference")
    if not said.startswith("no"):
        assert "-" not in said.replace("-0.0", "0.0")
        assert "−" not in said
    assert "at least" not in said


SUMMARY = {
    "linear_top1": 0.97, "few_label_top1": 0.86, "knn_top1": 0.93, "linear_macro_auroc": 0.999,
    "few_label_macro_auroc": 0.98, "raw_pixel_linear_top1": 0.97, "raw_pixel_few_label_top1": 0.88,
    "raw_pixel_knn_top1": 0.97, "raw_pixel_linear_macro_auroc": 0.99, "raw_pixel_few_label_macro_auroc": 0.98,
    "random_init_linear_top1": 0.96, "random_init_few_label_top1": 0.88, "random_init_knn_top1": 0.96,
    "random_init_linear_macro_auroc": 0.99, "random_init_few_label_macro_auroc": 0.99, "few_label_gain_low": -0.206,
    "few_label_gain_over_raw_pixel": [0.05, 0.02, 0.08], "few_label_gain_over_random_init": [-0.1, -0.206, -0.01],
    "samples_name": "images", "value_name": "pixel", "test_images": 360, "few_labels_per_class": 10, "neighbours": 20,
    "pretrain_seconds": 61.4,
}  # fmt: skip


def test_the_demos_numbers_have_names(tmp_path: Path) -> None:
    said = dict(summary_in_words(SUMMARY))
    assert not [name for name in said if "_" in name]
    assert said["Raw pixels: kNN, top-1"] == "97.0\N{NO-BREAK SPACE}%"
    assert said["Few labels, against random weights"].startswith("loss of 10.0 points, 1.0 to 20.6 ")
    assert said["Pretraining took"] == "1 min 1 s"
    write_run(tmp_path / "run", SMALL)
    (tmp_path / "run/summary.json").write_text(json.dumps({**SUMMARY, "of_another": [1]}))
    text = Page(build_page([read(tmp_path / "run")])).text
    assert not [key for key in SUMMARY if "_" in key and key in text]
    assert "of_another" in text, "a key that nobody knows is shown as it stands"


def test_the_demos_table_says_a_loss_where_the_bound_is_below_zero() -> None:
    assert "a loss of up to 20.6 points against a baseline cannot be excluded" in demo_table(SUMMARY)
    assert "at least -" not in demo_table(SUMMARY)
    assert "over each baseline is at least 2.0 points" in demo_table({**SUMMARY, "few_label_gain_low": 0.02})


def test_the_pretext_accuracy_is_drawn(tmp_path: Path) -> None:
    write_run(tmp_path / "run", SMALL)
    rows = [
        {"step": step, "epoch": 0, "proxy/accuracy": step / 10, "proxy/accuracy_without_mixes": 0.5} for step in (1, 2)
    ]
    write_rows(tmp_path / "run/metrics.jsonl", rows)
    assert 'data-figure="pretext-accuracy"' in build_page([read(tmp_path / "run")])
    figure = pretext_accuracy([read(tmp_path / "run")])
    assert isinstance(figure, Figure)
    assert figure.tables["pretext"]["value"] == [0.1, 0.2, 0.5, 0.5]


# --- the page's policy ---


def test_the_policy_names_each_script_and_style_by_its_hash(page: str, page_of_two: str) -> None:
    for html in (page, page_of_two):
        policy = str(next(each for each in Page(html).named("meta") if each.get("http-equiv"))["content"])
        assert "unsafe" not in policy
        blocks = re.findall(r"<(script|style)>(.*?)</\1>", html, re.DOTALL)
        assert len(blocks) == 3
        for kind, text in blocks:
            source = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            (allowed,) = (part for part in policy.split("; ") if part.startswith(f"{kind}-src"))
            assert f"'sha256-{source}'" in allowed
        assert not [attributes for _, attributes in Page(html).elements if "style" in attributes]
        assert math.isclose(policy.count("sha256-"), len(blocks))
