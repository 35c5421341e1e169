"""A number stands beside what it must beat: baselines against slow loops, their bounds, and their notes."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from statistics import NormalDist

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from contrast.data import Digits, ImageData, Standardisation
from contrast.data.views import SimCLRViews
from contrast.errors import InputError
from contrast.evaluation import (
    Encoder,
    FineTuning,
    Result,
    averaged_shape,
    balanced_accuracy,
    baselines,
    encode,
    evaluate_finetuning,
    evaluate_knn,
    evaluate_probe,
    fingerprint,
    matched_difference,
    measure_baselines,
    most_samples,
    raw_input,
    with_backbone,
    with_notes,
    write_result,
)
from contrast.evaluation.encoder import MOST_VALUES, AreaAverage
from contrast.models import ConvNet

CPU = torch.device("cpu")
SHAPES = st.tuples(st.integers(1, 5000), st.integers(1, 5000)) | st.tuples(
    st.integers(1, 5000), st.integers(1, 600), st.integers(1, 600)
)


class Some(Digits):
    """Digits of some classes."""

    def __init__(self, classes: tuple[int, ...], train: bool) -> None:
        super().__init__(train=train)
        kept = torch.isin(self.labels, torch.tensor(classes))
        self._images, self.labels = self._images[kept], self.labels[kept]


def data_of(test: Digits | None = None, limit: int | None = 300, train: Digits | None = None) -> ImageData:
    views = SimCLRViews(size=8, blur=0.0)
    test = Digits(train=False) if test is None else test
    return ImageData(train or Digits(), views=views, test=test, batch_size=64, workers=0, channels=1, limit=limit)


def encoder_of(net: nn.Module, width: int) -> Encoder:
    return Encoder(net, width, (1, 8, 8), Standardisation((0.5,), (0.25,)), fingerprint(net), {"architecture": "net"})


def convnet(seed: int) -> Encoder:
    torch.manual_seed(seed)
    return encoder_of(ConvNet((4, 8), channels=1, image_size=8), 8)


class Coarse(nn.Module):
    """Two numbers an image: worse than pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(2).mean(2).repeat(1, 2) + torch.tensor([0.0, 1.0])


def coarse() -> Encoder:
    return encoder_of(Coarse(), 2)


@settings(max_examples=400, deadline=None)
@given(shape=SHAPES, most=st.sampled_from([MOST_VALUES, 1024, 1, 7]))
def test_raw_input_has_at_most_3072_values_of_any_sample(shape: tuple[int, ...], most: int) -> None:
    smaller = averaged_shape(shape, most)
    assert 1 <= math.prod(smaller) <= most
    assert len(smaller) == len(shape)
    assert all(1 <= after <= before for after, before in zip(smaller, shape, strict=True))
    if math.prod(shape) <= most:
        assert smaller == shape


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 90), st.integers(1, 90))
    | st.tuples(st.integers(1, 4000), st.integers(1, 9))
)
def test_the_encoder_of_raw_input_is_as_wide_as_it_says(shape: tuple[int, ...]) -> None:
    standardisation = Standardisation((0.5,) * shape[0], (0.25,) * shape[0])
    raw = raw_input(Encoder(nn.Identity(), 1, shape, standardisation, "", {}))
    samples = torch.randint(0, 256, (2, *shape), dtype=torch.uint8) if len(shape) == 3 else torch.rand(2, *shape)
    found = encode(raw, samples)
    assert found.shape == (2, raw.width)
    assert raw.width <= 3072
    assert ("averaged" in raw.description["architecture"]) == (math.prod(shape) > 3072)


def test_the_average_is_by_area() -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = AreaAverage(averaged_shape((3, 64, 64)))(image)[0].view(3, 32, 32)
    for channel, row, column in ((0, 0, 0), (1, 5, 31), (2, 31, 7)):
        square = [image[0, channel, 2 * row + i, 2 * column + j].item() for i in (0, 1) for j in (0, 1)]
        assert found[channel, row, column].item() == pytest.approx(sum(square) / 4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=60))
def test_balanced_accuracy_is_the_mean_over_classes(rows: list[tuple[int, bool]]) -> None:
    labels, right = torch.tensor([label for label, _ in rows]), torch.tensor([hit for _, hit in rows])
    shares = []
    for label in range(5):
        own = [hit for each, hit in rows if each == label]
        if own:
            shares.append(sum(own) / len(own))
    assert balanced_accuracy(right, labels) == pytest.approx(sum(shares) / len(shares))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_matched_difference_is_agresti_and_mins(rows: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in rows], [b for _, b in rows]
    found, turned = matched_difference(first, second), matched_difference(second, first)
    assert found.mean == pytest.approx(sum(first) / len(rows) - sum(second) / len(rows))
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))
    # Wald's interval of a table whose four counts have half an item more each.
    n, b, c = len(rows) + 2, 0.5 + sum(a and not o for a, o in rows), 0.5 + sum(o and not a for a, o in rows)
    half = NormalDist().inv_cdf(0.975) * math.sqrt((b + c) - (b - c) ** 2 / n) / n
    assert (found.low, found.high) == pytest.approx((max(-1, (b - c) / n - half), min(1, (b - c) / n + half)))


def test_items_that_cannot_be_matched_are_refused() -> None:
    with pytest.raises(InputError, match="2 and 1 test items cannot be matched"):
        matched_difference([True, False], [True])


def test_matched_difference_covers_the_difference_in_about_95_of_100() -> None:
    draws = random.Random(0)
    covered = 0
    for _ in range(600):
        first = [draws.random() < 0.9 for _ in range(150)]
        second = [hit if draws.random() < 0.8 else draws.random() < 0.6 for hit in first]
        true = 0.9 - (0.8 * 0.9 + 0.2 * 0.6)
        found = matched_difference(first, second)
        covered += found.low <= true <= found.high
    assert 0.92 <= covered / 600 <= 0.98


def test_knn_has_its_three_baselines_each_with_its_protocol(tmp_path: Path) -> None:
    """By slow loops: the majority class by counting, raw input and random weights by their own evaluations."""
    encoder, other, data = convnet(0), convnet(1), data_of()
    told: list[str] = []
    result = evaluate_knn(encoder, data, tmp_path, CPU, 5)
    found = measure_baselines(result, encoder, other, data, tmp_path, CPU, lambda baseline: told.append(baseline.name))
    assert [each.name for each in found.baselines or ()] == told == ["majority_class", "raw_input", "random_weights"]
    majority, raw, random_weights = found.baselines or ()
    counts = [0] * 10
    for place in range(300):
        counts[data.train_set[place][2]] += 1
    answer = max(range(10), key=lambda number: (counts[number], -number))
    tested = [label for _, _, label in (data.test_set[place] for place in range(360))]
    assert majority.result.interval.mean == pytest.approx(sum(label == answer for label in tested) / 360)
    assert f"class {answer} for every sample" in majority.result.protocol["classifier"]
    assert majority.result.balanced == pytest.approx(0.1)
    assert raw.result.interval == evaluate_knn(raw_input(encoder), data, tmp_path / "own", CPU, 5).interval
    assert random_weights.result.interval == evaluate_knn(other, data, tmp_path / "own", CPU, 5).interval
    for baseline in found.baselines or ():
        assert baseline.compared == result.interval.mean
        assert baseline.difference.mean == pytest.approx(baseline.compared - baseline.result.interval.mean)
        assert baseline.difference.low < baseline.difference.mean < baseline.difference.high
        assert baseline.result.protocol["test_samples"] == 360
        assert baseline.result.protocol.keys() >= {"classifier", "features", "interval", "data", "selection"}
    assert raw.result.protocol["values"] == 64
    content = json.loads(write_result(tmp_path / "evaluations", found).read_text())
    assert list(content["baselines"]) == told
    assert content["baselines"]["raw_input"]["name"] == "raw pixels"
    assert content["baselines"]["raw_input"]["difference"] == raw.difference.mean
    assert content["balanced_accuracy"] == found.balanced
    # The encoder's own result does not depend on its baselines.
    assert write_result(tmp_path / "evaluations", result).name == found.file_name


def test_probes_on_few_labels_are_paired_by_seed(tmp_path: Path) -> None:
    encoder, other, data = convnet(0), convnet(1), data_of()
    result = evaluate_probe(encoder, data, tmp_path, CPU, range(3), per_class=5)
    found = measure_baselines(result, encoder, other, data, tmp_path, CPU)
    _, raw, _ = found.baselines or ()
    assert [seed["seed"] for seed in raw.result.per_seed] == [0, 1, 2]
    gaps = [mine["top1"] - theirs["top1"] for mine, theirs in zip(result.per_seed, raw.result.per_seed, strict=True)]
    assert raw.difference.mean == pytest.approx(sum(gaps) / 3)
    assert "3 seeds" in raw.over


def test_with_all_labels_one_seed_is_measured_and_matched_by_test_sample(tmp_path: Path) -> None:
    encoder, data = convnet(0), data_of()
    result = evaluate_probe(encoder, data, tmp_path, CPU, range(2), fraction=1.0)
    found = measure_baselines(result, encoder, None, data, tmp_path, CPU)
    assert [each.name for each in found.baselines or ()] == ["majority_class", "raw_input"]
    raw = (found.baselines or ())[1]
    assert [seed["seed"] for seed in raw.result.per_seed] == [0]
    assert raw.compared == result.per_seed[0]["top1"]
    assert "360 test samples" in raw.over


def test_fine_tuning_has_the_cheap_baselines(tmp_path: Path) -> None:
    encoder, data = convnet(0), data_of()
    tuning = FineTuning(epochs=1, rates=(0.1,), flip=0.0)
    result = evaluate_finetuning(encoder, data, CPU, [0, 1], tuning, per_class=3)
    found = measure_baselines(result, encoder, convnet(1), data, tmp_path, CPU)
    majority, raw = found.baselines or ()
    assert (majority.name, raw.name) == ("majority_class", "raw_input")
    assert raw.result.protocol["classifier"].startswith("multinomial")
    assert raw.difference.mean == pytest.approx(result.interval.mean - raw.result.interval.mean)


@pytest.mark.parametrize("kind", ["knn", "all labels", "few labels", "finetune"])
def test_large_sets_are_measured_in_part_and_the_encoder_on_the_same_part(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "_SEARCHED", 64 * 120)
    monkeypatch.setattr(baselines, "_FITTED", 64 * 80)
    monkeypatch.setattr(baselines, "_FEWEST", 1)
    encoder, data = coarse(), data_of()
    made: dict[str, Result] = {}
    if kind == "finetune":
        net = convnet(0)
        tuning = FineTuning(epochs=1, rates=(0.1,), flip=0.0)
        result, encoder = evaluate_finetuning(net, data, CPU, [0, 1], tuning, per_class=3), net
    elif kind == "knn":
        result = evaluate_knn(encoder, data, tmp_path, CPU, 5)
    else:
        made = {"fraction": 1.0} if kind == "all labels" else {"per_class": 4}  # type: ignore[dict-item]
        result = evaluate_probe(encoder, data, tmp_path, CPU, range(2), **made)  # type: ignore[arg-type]
    found = measure_baselines(result, encoder, None, data, tmp_path, CPU)
    raw = (found.baselines or ())[1]
    train, test = raw.result.protocol["train_samples"], raw.result.protocol["test_samples"]
    assert 100 <= test <= 130, "the same share of every class, rounded"
    expected = {"knn": (100, 130), "all labels": (70, 90), "few labels": (40, 40), "finetune": (30, 30)}
    assert expected[kind][0] <= train <= expected[kind][1]
    assert "at most" in raw.result.protocol["bound"]
    assert raw.difference.mean == pytest.approx(raw.compared - raw.result.interval.mean)
    # The encoder's own number is of everything.
    assert result.protocol["test_samples"] == 360


def test_a_bound_that_is_not_reached_takes_all(tmp_path: Path) -> None:
    assert most_samples(3072, fitted=False) == 20_000
    assert most_samples(3072, fitted=True) == 5_000
    assert most_samples(10**6, fitted=True) == 5_000
    data = data_of()
    found = measure_baselines(evaluate_knn(coarse(), data, tmp_path, CPU, 5), coarse(), None, data, tmp_path, CPU)
    assert (found.baselines or ())[1].result.protocol["bound"].endswith("here all samples")


def test_an_encoder_below_its_baselines_is_noted(tmp_path: Path) -> None:
    data = data_of()
    result = measure_baselines(
        evaluate_knn(coarse(), data, tmp_path, CPU, 5), coarse(), convnet(0), data, tmp_path, CPU
    )
    notes = with_notes(result, data).notes
    assert [note.partition(":")[0] for note in notes] == ["below raw pixels", "below random weights"]
    better = measure_baselines(
        evaluate_knn(raw_input(coarse()), data, tmp_path, CPU, 5), raw_input(coarse()), coarse(), data, tmp_path, CPU
    )
    assert with_notes(better, data).notes == []


def test_one_class_only_is_noted(tmp_path: Path) -> None:
    data = data_of(Some((3,), False), None, Some((3,), True))
    result = with_notes(evaluate_knn(coarse(), data, tmp_path, CPU, 5), data)
    assert result.interval.mean == 1
    assert result.notes == ["the test set has one class only (3): any constant answer has 100 %"]


def test_a_test_set_equal_to_the_train_set_is_noted(tmp_path: Path) -> None:
    data = data_of(Digits(), None)
    result = with_notes(evaluate_knn(raw_input(coarse()), data, tmp_path, CPU, 1), data)
    assert result.interval.mean == 1
    assert [note for note in result.notes if note.startswith("the test set has the same contents as the train set")]


def test_an_accuracy_that_a_constant_answer_has_is_noted(tmp_path: Path) -> None:
    """Nine in ten of the test set are of one class, and the encoder tells nothing apart."""
    test = Digits(train=False)
    kept = torch.cat([(test.labels == 1).nonzero()[:, 0], (test.labels == 2).nonzero()[:3, 0]])
    test._images, test.labels = test._images[kept], test.labels[kept]

    class Constant(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.new_ones(len(images), 2)

    encoder, data = encoder_of(Constant(), 2), data_of(test, None)
    result = with_notes(evaluate_knn(encoder, data, tmp_path, CPU, 5), data)
    assert "is not above always answering class 1" in result.notes[0]


def test_random_weights_are_cached_by_architecture_and_weights(tmp_path: Path) -> None:
    encoder, data = convnet(0), data_of()
    result = evaluate_knn(encoder, data, tmp_path, CPU, 5)
    measure_baselines(result, encoder, convnet(1), data, tmp_path, CPU)
    before = sorted(tmp_path.iterdir())
    assert len(before) == 6
    measure_baselines(result, encoder, with_backbone(encoder, convnet(1).backbone, {}), data, tmp_path, CPU)
    assert sorted(tmp_path.iterdir()) == before
    measure_baselines(result, encoder, convnet(2), data, tmp_path, CPU)
    assert len(list(tmp_path.iterdir())) == 8
