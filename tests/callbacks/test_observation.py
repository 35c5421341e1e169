"""What a step shows of its pairs, against loops over every pair."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from contrast import Pairs, in_batch_pairs, queue_pairs
from contrast.callbacks.observation import Observation, observe
from contrast.losses import (
    AdaptiveTemperature,
    BadPairMining,
    ContrastiveLoss,
    HardNegativeMixing,
    InfoNCE,
    NegativeInterpolation,
)
from contrast.losses import contrastive as contrastive_module
from contrast.losses.tiled import TiledNegatives
from contrast.pairs import MINED, NOT_OFFERED


def rows(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def values(seen: Observation) -> dict[str, float]:
    return {name: average.value() for name, average in seen.averages.items()}


def outranks(pairs: Pairs, i: int, own: bool) -> bool:
    """Whether query i's positive has a larger score than every negative it is offered."""
    others = [
        float(pairs.query[i] @ row)
        for row, of in zip(pairs.negatives, pairs.negative_index.reshape(len(pairs.negatives), -1), strict=True)
        if int(pairs.index[i]) not in of.tolist()
    ]
    if own and pairs.own_negatives is not None and pairs.own_negative_index is not None:
        offered = pairs.own_negative_index[i] != NOT_OFFERED
        others += [float(pairs.query[i] @ row) for row in pairs.own_negatives[i][offered]]
    return float(pairs.query[i] @ pairs.positive[i]) > max(others)


def test_proxy_accuracy_with_and_without_mixes_and_scores_by_kind() -> None:
    query, index = rows(0, 40, 3), torch.arange(40)
    near = torch.nn.functional.normalize(query + 0.6 * rows(1, 40, 3), dim=-1)
    pairs = queue_pairs(query, near, rows(2, 12, 3), index, torch.arange(30, 42))
    loss = ContrastiveLoss(InfoNCE(), 0.2, [HardNegativeMixing(hardest=4, pairs=3, queries=2)])
    output = loss(pairs)
    seen, found = observe(loss, output), values(observe(loss, output))
    (after,) = output.pairs
    for name, own in (("proxy/accuracy", True), ("proxy/accuracy_without_mixes", False)):
        expected = sum(outranks(after, i, own) for i in range(40)) / 40
        assert found[name] == pytest.approx(expected)
    assert 0 < found["proxy/accuracy"] < found["proxy/accuracy_without_mixes"] < 1  # mixes with the query are hard
    scores = torch.einsum("bd,bsd->bs", after.query, after.own_negatives)
    for kind, columns in (("pair_mix", slice(0, 3)), ("query_mix", slice(3, 5))):
        row = seen.histograms[kind].row()
        assert sum(row["counts"]) == scores[:, columns].numel()
        assert row["mean"] == pytest.approx(scores[:, columns].mean().item(), rel=1e-5)
    assert sum(seen.histograms["negative"].row()["counts"]) == 40 * 12 - 10 + 40 * 5
    assert "mined" not in seen.histograms


def test_a_banks_rows_are_no_mixes() -> None:
    query, index = rows(0, 40, 3), torch.arange(40)
    near = torch.nn.functional.normalize(query + 0.6 * rows(1, 40, 3), dim=-1)
    own = dataclasses.replace(
        queue_pairs(query, near, rows(2, 4, 3), index, torch.arange(100, 104)),
        own_negatives=rows(3, 40, 5, 3),
        own_negative_index=torch.arange(200, 205).expand(40, 5),
        own_negative_kind=torch.full((5,), MINED),
    )
    plain, mixing = ContrastiveLoss(InfoNCE(), 0.2), HardNegativeMixing(hardest=4, pairs=3, queries=2)
    seen = observe(plain, plain(own))
    assert "proxy/accuracy_without_mixes" not in values(seen)
    assert values(seen)["proxy/accuracy"] == pytest.approx(sum(outranks(own, i, own=True) for i in range(40)) / 40)
    assert sum(seen.histograms["mined"].row()["counts"]) == 200
    mixed = ContrastiveLoss(InfoNCE(), 0.2, [mixing])
    found = values(observe(mixed, mixed(own)))
    assert found["proxy/accuracy_without_mixes"] == values(seen)["proxy/accuracy"] > found["proxy/accuracy"]


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("heads", [(), (2,)])
def test_temperatures_of_each_head(heads: tuple[int, ...], tiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if tiled:
        monkeypatch.setattr(contrastive_module, "negative_logits", lambda pairs, tau: TiledNegatives(pairs, tau, 3))
    torch.manual_seed(0)
    temperature = AdaptiveTemperature(width=4, hidden_width=8)
    pairs = in_batch_pairs(rows(0, *heads, 5, 4), rows(1, *heads, 5, 4), torch.arange(5))
    mixing = HardNegativeMixing(hardest=3, pairs=2, queries=0)
    loss = ContrastiveLoss(InfoNCE(), temperature, [mixing, NegativeInterpolation()])
    output = loss(pairs)
    found = values(observe(loss, output))
    (after,) = output.pairs
    for head in range(heads[0] if heads else 1):
        z, positive, others, own = (
            each[head] if heads else each
            for each in (after.query, after.positive, after.negatives, after.own_negatives)
        )
        of_positives = [temperature.of_pairs(a, b).item() for a, b in zip(z, positive, strict=True)]
        of_negatives = [
            temperature.of_pairs(a, b).item()
            for i, a in enumerate(z)
            for b, of in zip(others, after.negative_index.tolist(), strict=True)
            if int(after.index[i]) not in of
        ] + [temperature.of_pairs(a, b).item() for a, made in zip(z, own, strict=True) for b in made]
        assert found[f"temperature/head{head}/positive"] == pytest.approx(sum(of_positives) / len(of_positives))
        assert found[f"temperature/head{head}/negative"] == pytest.approx(
            sum(of_negatives) / len(of_negatives), rel=1e-5
        )


def test_shares_and_weights_of_flagged_pairs() -> None:
    mining = BadPairMining(samples=6, warmup_epochs=1, noisy=9.0, faulty=1.0)
    loss = ContrastiveLoss(InfoNCE(), 0.5, weighting=mining)
    pairs = in_batch_pairs(rows(0, 6, 4), rows(1, 6, 4), torch.arange(6))
    loss.begin_epoch(0)
    loss(pairs)
    loss.begin_epoch(1)
    output = loss(pairs)
    found = values(observe(loss, output))
    flagged = mining.is_faulty
    assert 0 < flagged.sum() < 6
    assert found["bad_pairs/faulty"] == pytest.approx(flagged.double().mean().item())
    assert found["bad_pairs/noisy"] == 0
    assert found["bad_pairs/weight"] == pytest.approx(output.weights[flagged.repeat(2)].mean().item())
