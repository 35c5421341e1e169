"""Near-duplicates against a loop over all pairs, and the command on a set with copies in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from contrast.cli import main
from contrast.errors import InputError
from contrast.evaluation import near_across, near_within, of_two_classes
from tests.commands.running import pretrain


def rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(one @ other / one.norm() / other.norm())


def listed(pairs):
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.cosine.tolist(), strict=True))


def the_same(pairs, expected):
    assert {pair[:2] for pair in listed(pairs)} == set(expected)
    assert len(pairs) == len(expected)
    assert all(
        value == pytest.approx(expected[pair], abs=1e-6) for *pair, value in listed(pairs) for pair in [tuple(pair)]
    )
    assert pairs.cosine.tolist() == sorted(pairs.cosine.tolist(), reverse=True)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.sampled_from([-0.9, 0.3, 0.9]), st.integers(0, 999))
def test_within_a_set_every_pair_above_the_threshold_is_found_once(count, threshold, seed):
    features = rows(count, seed)
    every = {(i, j): cosine(features[i], features[j]) for i in range(count) for j in range(i + 1, count)}
    expected = {pair: value for pair, value in every.items() if value >= threshold}
    the_same(near_within(features, threshold, neighbours=count), expected)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([-0.9, 0.3, 0.9]), st.integers(0, 999))
def test_across_two_sets(count, others, threshold, seed):
    one, other = rows(count, seed), rows(others, seed + 1)
    every = {(i, j): cosine(one[i], other[j]) for i in range(count) for j in range(others)}
    expected = {pair: value for pair, value in every.items() if value >= threshold}
    the_same(near_across(one, other, threshold, neighbours=others), expected)


def test_few_neighbours_find_the_nearest_pairs_alone():
    features = torch.stack([torch.tensor([1.0, 0.01 * place**2, 0.0]) for place in range(6)])
    pairs = near_within(features, 0.9, neighbours=1)
    assert {pair[:2] for pair in listed(pairs)} == {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)}


def test_many_copies_of_a_sample_still_have_pairs():
    pairs = near_within(torch.ones(30, 4), 1.0, neighbours=3)
    assert set(pairs.first.tolist()) | set(pairs.second.tolist()) == set(range(30))
    assert (pairs.first < pairs.second).all()


def test_more_queries_than_are_searched_at_once(monkeypatch):
    features = rows(50, 0)
    whole = listed(near_within(features, 0.8))
    monkeypatch.setattr("contrast.evaluation.duplicates._AT_ONCE", 7)
    assert listed(near_within(features, 0.8)) == whole


def test_pairs_of_two_classes_are_counted_where_both_labels_are_known():
    pairs = near_within(torch.ones(4, 2), 0.9)
    assert of_two_classes(pairs, torch.tensor([0, 0, 1, -1]), torch.tensor([0, 0, 1, -1])) == 2
    assert of_two_classes(pairs, torch.full((4,), -1), torch.full((4,), -1)) is None


@pytest.mark.parametrize(
    ("count", "threshold", "neighbours", "message"),
    [(1, 0.9, 5, "1 sample has no pairs"), (4, 0.9, 0, "0 neighbours find no pair"), (4, 1.5, 5, "threshold of 1.5")],
)
def test_what_cannot_be_searched_is_refused(count, threshold, neighbours, message):
    with pytest.raises(InputError, match=message):
        near_within(rows(count, 0), threshold, neighbours)


def test_the_command_finds_copies_in_an_unlabelled_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # 40 files of noise, each third of them a copy of the one before, and a test set that shares two files with them.
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    images[2::3] = images[1::3]
    for split, chosen in (("train", images), ("test", np.concatenate([images[:1], images[3:4], 255 - images[:3]]))):
        (tmp_path / split).mkdir()
        for place, image in enumerate(chosen):
            Image.fromarray(image).save(tmp_path / split / f"{place:02}.png")
    folder = "class_path: contrast.data.ImageFolder, init_args: {root: %s}"
    sets = [f"    {split}: {{{folder % (tmp_path / split)}}}" for split in ("train", "test")]
    (tmp_path / "data.yaml").write_text("\n".join(["data:", "  init_args:", *sets, "    batch_size: 16", ""]))
    run = tmp_path / "run"
    assert pretrain(run, "--config", tmp_path / "data.yaml", "--data.limit", 40, "--trainer.max_epochs", 1) == 0
    capsys.readouterr()
    assert main(["duplicates", str(run), "--threshold", "0.999999"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "within train: 13 pairs, 26 of 40 samples"
    assert printed[2] == "test and train: 2 pairs, 2 of 5 samples"
    found = json.loads((run / "duplicates/duplicates.json").read_text())
    assert sorted(pair[:2] for pair in found["within train"]["listed"]) == [[k, k + 1] for k in range(1, 39, 3)]
    assert sorted(pair[:2] for pair in found["test and train"]["listed"]) == [[0, 0], [1, 3]]
    assert found["within train"]["of_two_classes"] is None
    for line in (printed[1], printed[3]):
        with Image.open(line) as picture:
            assert min(picture.size) > 100
    # The features that were kept serve no evaluation that needs labels.
    assert main(["knn", str(run), "--neighbours", "3"]) == 2


@pytest.mark.parametrize(
    ("copies", "neighbours", "pairs", "complete"),
    [(3, 5, 3, True), (4, 3, 6, False), (6, 3, 9, False), (6, 5, 15, False), (6, 6, 15, True)],
)
def test_every_copy_is_in_a_pair_and_a_cut_count_is_told(copies, neighbours, pairs, complete):
    """Each row looks at its nearest rows only, so that pairs of many copies are a part of all."""
    features = torch.cat([rows(1, 0).expand(copies, -1), rows(12, 1)])
    found = near_within(features, 0.999999, neighbours)
    assert set(torch.cat([found.first, found.second]).tolist()) == set(range(copies))
    assert len(found) <= copies * (copies - 1) // 2
    assert found.complete is complete
    assert len(found) == pairs or not complete
    across = near_across(features[:1], features, 0.999999, neighbours)
    assert across.complete is (neighbours > copies)
    assert near_within(features[:copies], 0.9, copies).complete


def test_the_command_says_how_many_pairs_are_of_two_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain(tmp_path / "run") == 0
    capsys.readouterr()
    assert main(["duplicates", str(tmp_path / "run"), "--threshold", "0.9", "--output", str(tmp_path / "out")]) == 0
    assert "of them of different classes" in capsys.readouterr().out
    assert main(["duplicates", str(tmp_path / "run"), "--threshold", "2"]) == 2
    assert "threshold of 2 does not select pairs" in capsys.readouterr().err
