"""Every piece stays finite where temperatures are low, rows are in half precision and embeddings coincide."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from contrast import Pairs, in_batch_pairs, queue_pairs
from contrast.banks import KeyQueue
from contrast.errors import InputError
from contrast.losses import (
    AdaptiveTemperature,
    BadPairMining,
    ContrastiveLoss,
    FixedTemperature,
    LearnedTemperature,
    Temperature,
    TiledNegatives,
    contrastive,
)
from tests.losses.examples import OBJECTIVES, TRANSFORMS, in_batch, rows

WIDTH = 8
TEMPERATURES: dict[str, Callable[[], Temperature]] = {
    "fixed": lambda: FixedTemperature(0.01),
    "learned": lambda: LearnedTemperature(0.01),
    "adaptive": lambda: AdaptiveTemperature(WIDTH, 4, lowest=0.01, highest=0.02, beta=1.0),
}

CHOICES = sorted(
    {*itertools.product(OBJECTIVES, ("none", "all, mixed last")), *itertools.product(("InfoNCE", "HCL"), TRANSFORMS)}
)
"""Every objective on pairs as they are and on transformed ones, and every transform."""


def views(kind: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two samples' two views: all coincide, or views point apart, are swapped, or are alike and the samples are not."""
    one = torch.nn.functional.one_hot(torch.tensor([0, 0]), WIDTH).to(dtype)
    other = torch.nn.functional.one_hot(torch.tensor([0, 1]), WIDTH).to(dtype)
    kinds = {
        "identical": (one, one),
        "opposite": (one, -one),
        "swapped": (other, other.flip(0)),
        "learned": (other, other),
    }
    return kinds[kind]


def pairs_of(first: Tensor, second: Tensor, queue: bool) -> Pairs:
    index = torch.arange(2)
    if not queue:
        return in_batch_pairs(first, second, index)
    bank = KeyQueue(WIDTH, size=5)  # two of its rows are filled, with keys of other samples that coincide with these
    bank.store(second.detach().float(), index + 2)
    offered = bank.negatives(first, index)
    return queue_pairs(first, second, offered.keys.to(first.dtype), index, offered.index, offered.placeholder)


def weighting() -> BadPairMining:
    mining = BadPairMining(4, warmup_epochs=1, noisy=0.5, faulty=0.5)
    mining.begin_epoch(0)
    mining(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.arange(4))
    mining.begin_epoch(1)
    return mining


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["identical", "opposite", "swapped", "learned"])
@pytest.mark.parametrize("queue", [False, True], ids=["in-batch", "queue"])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_finite(kind: str, dtype: torch.dtype, queue: bool, temperature: str) -> None:
    for named, transforms in CHOICES:
        if temperature == "adaptive" and named in ("Debiased", "HCL"):
            continue
        first, second = (view.clone().requires_grad_() for view in views(kind, dtype))
        pieces = OBJECTIVES[named](), TEMPERATURES[temperature](), TRANSFORMS[transforms]()
        loss = ContrastiveLoss(*pieces, weighting())
        output = loss(pairs_of(first, second, queue))
        some = bool(loss.logits(output.pairs[0])[1].count.all())
        if not some and named not in ("InfoNCE", "Debiased", "HCL"):
            continue  # two samples' rows, mixed with each other, are nobody's negatives: the loss is their logarithm
        output.loss.backward()
        assert output.loss.dtype == torch.float32
        assert output.loss.isfinite(), (named, transforms)
        for leaf in (first, *([] if queue else [second]), *loss.parameters()):
            assert leaf.grad.isfinite().all(), (named, transforms)


@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_half_precision_rows_have_the_loss_of_the_same_rows_in_float32(transforms: str) -> None:
    pairs = in_batch(0, 6)
    half = [rows.bfloat16() for rows in (pairs.query, pairs.positive, pairs.negatives)]
    names = ("query", "positive", "negatives")
    loss = ContrastiveLoss(OBJECTIVES["InfoNCE"](), 0.01, TRANSFORMS[transforms]())
    found = loss(dataclasses.replace(pairs, **dict(zip(names, half, strict=True)))).losses
    wide = loss(dataclasses.replace(pairs, **dict(zip(names, (each.float() for each in half), strict=True)))).losses
    torch.testing.assert_close(found, wide, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("transforms", TRANSFORMS)
@pytest.mark.parametrize("objective", ["InfoNCE", "HardestNegative"])
def test_autocast_changes_nothing(
    transforms: str, objective: str, tiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores, mining and sums are never in half precision, in backward neither."""
    if tiled:
        monkeypatch.setattr(contrastive, "negative_logits", lambda pairs, tau: TiledNegatives(pairs, tau, columns=5))
    torch.manual_seed(0)
    temperature = AdaptiveTemperature(WIDTH, 4)
    found = []
    for enabled in (False, True):
        z1, z2 = (rows(seed, 6, WIDTH).float().requires_grad_() for seed in (0, 1))
        loss = ContrastiveLoss(OBJECTIVES[objective](), temperature, TRANSFORMS[transforms]())
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = loss(in_batch_pairs(z1, z2, torch.arange(6)))
        output.loss.backward()
        found.append((output.losses, z1.grad, z2.grad))
    for plain, cast in zip(*found, strict=True):
        assert torch.equal(plain, cast)


def test_tiles_are_not_cast_when_observers_ask_for_them() -> None:
    pairs = dataclasses.replace(in_batch(0, 6), query=rows(0, 12, 6).float(), negatives=rows(1, 12, 6).float())
    negatives = TiledNegatives(pairs, FixedTemperature(0.1), columns=5)
    expected = [tile.score for tile in negatives.tiles()]
    with torch.autocast("cpu", torch.bfloat16):
        for found, score in zip(negatives.tiles(), expected, strict=True):
            assert torch.equal(found.score, score)


def test_queue_of_no_keys_mines_nothing_and_is_offered() -> None:
    first, second = views("swapped", torch.float32)
    bank = KeyQueue(WIDTH, size=5)
    offered = bank.negatives(first, torch.arange(2))
    pairs = queue_pairs(first, second, offered.keys, torch.arange(2), offered.index, offered.placeholder)
    assert offered.placeholder.all()
    for objective, transforms in ((o, t) for o in OBJECTIVES.values() for t in TRANSFORMS.values()):
        loss = ContrastiveLoss(objective(), 0.01, transforms())
        output = loss(pairs)
        assert output.loss.isfinite()
        assert loss.logits(output.pairs[0])[1].count.tolist() == [5, 5]


def test_adaptive_temperature_refuses_the_floor_in_half_precision_too() -> None:
    pairs = in_batch_pairs(*views("identical", torch.bfloat16), torch.arange(2))
    with pytest.raises(InputError):
        ContrastiveLoss(OBJECTIVES["HCL"](), TEMPERATURES["adaptive"]())(pairs)
