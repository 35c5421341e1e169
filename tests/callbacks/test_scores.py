"""The recorded histograms against loops over every score of the matrix."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contrast import Pairs, in_batch_pairs, queue_pairs
from contrast.callbacks import ScoreRecorder
from contrast.callbacks.observation import observe
from contrast.callbacks.score_sums import BINS, ScoreSums
from contrast.errors import InputError
from contrast.losses import DCL, ContrastiveLoss, InfoNCE, LearnedTemperature, Loss, LossOutput, PairTransform
from contrast.methods import ContrastiveMethod
from contrast.pairs import NOT_OFFERED
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.callbacks.fitting import Steps, fit, moco, simclr

small = settings(deadline=None, max_examples=15)


def rows(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)


def described(scores: list[float]) -> dict[str, Any]:
    """Histogram, mean and standard deviation of some numbers, one by one."""
    counts = [0] * 100
    for score in scores:
        counts[min(max(math.floor((score + 1) / 0.02), 0), 99)] += 1
    mean = sum(scores) / len(scores)
    variance = sum((score - mean) ** 2 for score in scores) / len(scores)
    return {"counts": counts, "mean": mean, "std": math.sqrt(variance)}


def every_score(pairs: Pairs) -> tuple[list[float], list[float]]:
    """Positive and negative scores of pairs without heads, each query with each row that it may not leave out."""
    positive = [float(query @ key) for query, key in zip(pairs.query, pairs.positive, strict=True)]
    negative = []
    for i, query in enumerate(pairs.query):
        for j, key in enumerate(pairs.negatives):
            same = int(pairs.index[i]) in pairs.negative_index[j].reshape(-1).tolist() and int(pairs.index[i]) >= 0
            if not same and (pairs.excluded is None or j not in pairs.excluded[i].tolist()):
                negative.append(float(query @ key))
        if pairs.own_negatives is not None and pairs.own_negative_index is not None:
            for key, index in zip(pairs.own_negatives[i], pairs.own_negative_index[i].tolist(), strict=True):
                if index not in (NOT_OFFERED, int(pairs.index[i])):
                    negative.append(float(query @ key))
    return positive, negative


def check(row: dict[str, Any], scores: list[float], moved: int = 0) -> None:
    """A row describes these scores; `moved` of them may have been rounded over an edge."""
    expected = described(scores)
    assert sum(row["counts"]) == len(scores)
    assert sum(abs(a - b) for a, b in zip(row["counts"], expected["counts"], strict=True)) <= 2 * moved
    assert row["mean"] == pytest.approx(expected["mean"], rel=1e-5, abs=1e-6)
    assert row["std"] == pytest.approx(expected["std"], rel=1e-4, abs=1e-6)


def both(loss: Loss, *pairs: Pairs) -> tuple[dict[str, Any], dict[str, Any]]:
    histograms = observe(loss, loss(*pairs)).histograms
    return histograms["positive"].row(), histograms["negative"].row()


@small
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_in_batch_scores(seed: int, count: int) -> None:
    pairs = in_batch_pairs(rows(seed, count, 3), rows(seed + 1, count, 3), torch.arange(count))
    positive, negative = both(ContrastiveLoss(InfoNCE(), LearnedTemperature()), pairs)
    expected_positive, expected_negative = every_score(pairs)
    assert len(expected_negative) == 2 * count * 2 * (count - 1)
    check(positive, expected_positive)
    check(negative, expected_negative)


@small
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(3, 12))
def test_queue_scores_of_both_directions_without_the_querys_own_sample(seed: int, count: int, size: int) -> None:
    index = torch.arange(count)
    generator = torch.Generator().manual_seed(seed)
    queue_index = torch.randint(-1, 2 * count, (2, size), generator=generator)
    directions = [
        queue_pairs(rows(seed, count, 3), rows(seed + 1, count, 3), rows(seed + 2 + n, size, 3), index, queue_index[n])
        for n in range(2)
    ]
    positive, negative = both(ContrastiveLoss(DCL()), *directions)
    expected = [every_score(pairs) for pairs in directions]
    check(positive, expected[0][0] + expected[1][0])
    if expected[0][1] + expected[1][1]:
        check(negative, expected[0][1] + expected[1][1])


def test_excluded_columns_own_negatives_and_rows_that_are_none() -> None:
    query, key, queue, own = rows(0, 3, 4), rows(1, 3, 4), rows(2, 6, 4), rows(3, 3, 2, 4)
    pairs = Pairs(
        query, key, queue, torch.arange(3), torch.tensor([[0, 7], [8, 1], [-1, -1], [2, 0], [5, 5], [-1, 9]]),
        excluded=torch.tensor([[0, 5], [-1, -1], [2, -1]]), own_negatives=own,
        own_negative_index=torch.tensor([[-1, NOT_OFFERED], [1, -1], [7, 8]]),
    )  # fmt: skip
    _, negative = both(ContrastiveLoss(DCL()), pairs)
    expected = every_score(pairs)[1]
    assert len(expected) == 3 + 5 + 4 + 1 + 1 + 2  # shared ones of each query, then its own rows
    check(negative, expected)


def test_heads_are_counted_together() -> None:
    z = rows(0, 4, 5, 3)
    index = torch.arange(5)
    loss = ContrastiveLoss(DCL())
    together = both(loss, in_batch_pairs(z[:2], z[2:], index))
    apart = [every_score(in_batch_pairs(z[head], z[2 + head], index)) for head in range(2)]
    for kind in (0, 1):
        check(together[kind], apart[0][kind] + apart[1][kind])


def test_scores_beyond_the_range_fall_in_the_end_bins() -> None:
    sums = ScoreSums(torch.device("cpu"))
    sums.add(torch.tensor([-9.0, -1.0001, -1.0, -0.981, 0.0, 0.0199, 0.981, 0.9999, 1.0, 1.0000001, 7.5]))
    row = sums.row()
    assert {place: count for place, count in enumerate(row["counts"]) if count} == {0: 4, 50: 2, 99: 5}
    assert row["mean"] == pytest.approx((-9 - 1.0001 - 1 - 0.981 + 0.0199 + 0.981 + 0.9999 + 1 + 1.0000001 + 7.5) / 11)


def test_transformed_pairs_are_what_is_recorded() -> None:
    class Extrapolate(PairTransform):
        def forward(self, pairs: Pairs) -> Pairs:
            return Pairs(3 * pairs.query, pairs.positive, pairs.negatives, pairs.index, pairs.negative_index)

    pairs = in_batch_pairs(rows(0, 6, 3), rows(0, 6, 3), torch.arange(6))
    positive, negative = both(ContrastiveLoss(DCL(), transforms=[Extrapolate()]), pairs)
    assert positive["counts"][99] == 12  # each score is 3
    check(negative, [3 * score for score in every_score(pairs)[1]])


@pytest.mark.parametrize("replaced", [float("nan"), float("inf"), -float("inf")])
def test_what_is_left_out_may_be_anything(replaced: float) -> None:
    sums = ScoreSums(torch.device("cpu"))
    sums.add(torch.tensor([[0.5, replaced], [0.3, 0.1]]), torch.tensor([[True, False], [True, True]]))
    row = sums.row()
    assert sum(row["counts"]) == 3
    assert row["mean"] == pytest.approx(0.3)


def test_half_precision_and_large_counts_keep_their_sums() -> None:
    sums = ScoreSums(torch.device("cpu"))
    for _ in range(40):
        sums.add(torch.full((64, 1024), 0.3, dtype=torch.bfloat16))
    row = sums.row()
    assert sum(row["counts"]) == 40 * 64 * 1024
    assert row["mean"] == pytest.approx(torch.tensor(0.3, dtype=torch.bfloat16).item(), rel=1e-12)
    assert row["std"] == pytest.approx(0, abs=1e-6)


class Distance(Loss):
    def forward(self, *pairs: Pairs) -> LossOutput:
        losses = torch.cat([(each.query - each.positive).norm(dim=-1) for each in pairs])
        return LossOutput(losses.mean(), losses.detach(), None, tuple(each.detached() for each in pairs))


@pytest.mark.parametrize("make", [simclr, moco, lambda: simclr(Distance())], ids=["SimCLR", "MoCo", "another loss"])
def test_rows_of_a_run(make: Callable[[], ContrastiveMethod], tmp_path: Path) -> None:
    """They are of the pairs that the loss saw: a queue's rows as they were before this step's keys replaced some."""
    folder, steps, method = RunFolder(tmp_path), Steps(), make()
    fit(tmp_path, method, [steps, ScoreRecorder(folder, every_n_steps=2)])
    header, *recorded = read_rows(folder.scores)
    assert header["format"] == 1
    assert np.allclose(header["edges"], np.linspace(-1, 1, BINS + 1))
    assert [(row["step"], row["epoch"]) for row in recorded] == [(1, 0), (2, 0), (4, 1), (6, 1)]
    for row in recorded:
        scores = [every_score(pairs) for pairs in steps.pairs[row["step"] - 1]]
        check(row["positive"], [score for positive, _ in scores for score in positive], moved=2)
        if isinstance(method.loss, ContrastiveLoss):
            check(row["negative"], [score for _, negative in scores for score in negative], moved=5)
        else:
            assert row["negative"] == {"counts": [0] * BINS, "mean": None, "std": None}
    assert method.seen is None  # nothing is held on to between steps


def test_accumulated_batches_are_one_step_and_one_row(tmp_path: Path) -> None:
    folder, steps = RunFolder(tmp_path), Steps()
    fit(tmp_path, moco(), [steps, ScoreRecorder(folder, 1)], accumulate_grad_batches=3)
    recorded = read_rows(folder.scores)[1:]
    assert [row["step"] for row in recorded] == [1, 2]
    for row, first_batch in zip(recorded, (0, 3), strict=True):
        scores = [every_score(pairs) for pairs in steps.pairs[first_batch]]
        check(row["negative"], [score for _, negative in scores for score in negative], moved=5)


def test_recording_changes_no_training(tmp_path: Path) -> None:
    weights = []
    for every in (0, 1):
        (tmp_path / str(every)).mkdir()
        method = moco(ContrastiveLoss(DCL(), LearnedTemperature(0.2)))
        fit(tmp_path / str(every), method, [ScoreRecorder(RunFolder(tmp_path / str(every)), every)])
        weights.append(method.state_dict())
    assert not (tmp_path / "0/scores.jsonl").exists()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_a_resumed_run_appends_to_the_same_file_without_a_second_header(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    trainer = fit(tmp_path, simclr(), [ScoreRecorder(folder, 1)], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "kept.ckpt", weights_only=False)
    fit(tmp_path, simclr(), [ScoreRecorder(folder, 1)], resume=tmp_path / "kept.ckpt")
    lines = [json.loads(line) for line in folder.scores.read_text().splitlines()]
    assert [line.get("step") for line in lines] == [None, 1, 2, 3, 4, 5, 6]


def test_a_negative_interval_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scores\.every_n_steps -1 is negative"):
        ScoreRecorder(RunFolder(tmp_path), -1)
