"""MoCHi and FT against reference numbers, draws given, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from contrast import Pairs, queue_pairs
from contrast.banks import KeyQueue
from contrast.losses import (
    ContrastiveLoss,
    InfoNCE,
    NegativeInterpolation,
    PositiveExtrapolation,
    extrapolate,
    feature_transformation,
    interpolate,
    mix_pairs,
    mix_with_query,
)
from contrast.losses.hard_negative_mixing import hardest_rows
from contrast.pairs import UNKNOWN
from tests.golden_cases import cases, close


def all_logits(loss: ContrastiveLoss, pairs: Pairs) -> Tensor:
    positive, negatives = loss.logits(pairs)
    return torch.cat([positive.logit[:, None], *(tile.logit for tile in negatives.tiles())], dim=1).detach()


def unknown(count: int) -> Tensor:
    return torch.full((count,), UNKNOWN)


def test_mochi() -> None:
    for _, parameters, arrays in cases("mochi"):
        query, key, queue = arrays["q"].requires_grad_(), arrays["k"], arrays["queue_rows"]
        hard = queue[arrays["hard_idx"]]
        made = [hard[:, :0]]
        if parameters["s"]:
            made.append(mix_pairs(hard, arrays["pair_idx1"], arrays["pair_idx2"], arrays["pair_alpha"]))
            close(made[-1], arrays["synth_pairs"])
        if parameters["s_prime"]:
            made.append(mix_with_query(query, hard, arrays["query_idx"], arrays["query_beta"]))
            close(made[-1], arrays["synth_query"])
        own = torch.cat(made, dim=1)
        pairs = Pairs(
            query, key, queue, torch.arange(len(query)), unknown(len(queue)), own_negatives=own,
            own_negative_index=unknown(own[..., 0].numel()).view(own.shape[:2]),
        )  # fmt: skip
        loss = ContrastiveLoss(InfoNCE(), parameters["tau"])
        output = loss(pairs)
        output.loss.backward()
        close(all_logits(loss, pairs), arrays["logits"])
        close(output.loss.detach(), arrays["loss"])
        close(query.grad, arrays["grad_q"])
        without = queue_pairs(query.detach(), key, queue, torch.arange(len(query)), unknown(len(queue)))
        close(loss(without).loss, arrays["loss_plain_moco"])


def test_mochi_mines_the_same_rows() -> None:
    for _, parameters, arrays in cases("mochi"):
        pairs = queue_pairs(
            arrays["q"], arrays["k"], arrays["queue_rows"], torch.arange(parameters["N"]), unknown(parameters["K"])
        )
        found, count = hardest_rows(pairs, parameters["n_hard"])
        assert count.tolist() == [parameters["n_hard"]] * parameters["N"]
        for mine, theirs in zip(found, arrays["hard_idx"], strict=True):
            place = (mine[:, None] == arrays["queue_rows"][None]).all(dim=-1).nonzero()[:, 1]
            assert sorted(place.tolist()) == sorted(theirs.tolist())


class Given(nn.Module):
    """In place of a transform's quantile function: draws that are given."""

    def __init__(self, draws: Tensor) -> None:
        super().__init__()
        self.draws = draws

    def forward(self, uniforms: Tensor) -> Tensor:
        return self.draws


def transforms(parameters: dict, arrays: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """FT's two transforms with the λ and the permutation of a case.

    The authors' option to bring rows back to unit length leaves the negatives as they are.
    """
    renormalise = bool(parameters["options"].get("postmix_norm"))
    made: list[nn.Module] = []
    if "lambda_pos" in arrays:
        made.append(PositiveExtrapolation(renormalise=renormalise))
        made[-1].quantile = Given(arrays["lambda_pos"] - 1)
    if "lambda_neg" in arrays:
        made.append(NegativeInterpolation())
        made[-1].quantile = Given(arrays["lambda_neg"])
        monkeypatch.setattr(feature_transformation, "row_permutation", lambda identity, keys: arrays["perm"])
    return made


def test_ft(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0
    for _, parameters, arrays in cases("ft"):
        query, key, queue = arrays["q"].requires_grad_(), arrays["k"], arrays["queue_before"]
        loss = ContrastiveLoss(InfoNCE(), parameters["tau"], transforms(parameters, arrays, monkeypatch))
        output = loss(queue_pairs(query, key, queue, torch.arange(len(query)), unknown(len(queue))))
        output.loss.backward()
        used = output.pairs[0]
        close(used.query, arrays["q_used"])
        close(used.positive, arrays["k_used"])
        close(used.negatives, arrays["queue_used"])
        close(all_logits(loss, used), arrays["logits"])
        close(output.loss.detach(), arrays["loss"])
        close(query.grad, arrays["grad_q"])
        scores = torch.stack(score_columns(loss, used), dim=1)
        torch.testing.assert_close(scores, arrays["score"][:, :3], rtol=2e-3, atol=2e-3)  # float16 in the file
        seen += 1
    assert seen == 24


def score_columns(loss: ContrastiveLoss, pairs: Pairs) -> list[Tensor]:
    """Mean and variance of the negatives' scores and the positive's, after the transform and before τ."""
    positive, negatives = loss.logits(pairs)
    (tile,) = negatives.tiles()
    return [tile.score.mean(dim=1), tile.score.var(dim=1), positive.score]


def test_ft_by_the_pure_functions() -> None:
    for _, parameters, arrays in cases("ft"):
        query, key, queue = arrays["q"], arrays["k"], arrays["queue_before"]
        if "lambda_pos" in arrays:
            query, key = extrapolate(query, key, arrays["lambda_pos"])
        if "lambda_neg" in arrays:
            queue = interpolate(queue, arrays["perm"], arrays["lambda_neg"])
        if parameters["options"].get("postmix_norm"):
            query, key = nn.functional.normalize(query, dim=-1), nn.functional.normalize(key, dim=-1)
        close(query, arrays["q_used"])
        close(key, arrays["k_used"])
        close(queue, arrays["queue_used"])


def test_ft_stores_the_original_keys() -> None:
    for _, parameters, arrays in cases("ft"):
        queue = KeyQueue(parameters["D"], parameters["K"]).double()
        queue.keys.copy_(arrays["queue_before"])
        queue.store(arrays["k"], torch.arange(parameters["N"]))
        assert torch.equal(queue.keys, arrays["queue_after"])
