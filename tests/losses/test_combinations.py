"""Every combination of pieces runs, or is refused in one line; tiles and the whole matrix agree on each."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from contrast import Pairs
from contrast.errors import InputError
from contrast.losses import (
    BadPairMining,
    ContrastiveLoss,
    DenseNegatives,
    FixedTemperature,
    Temperature,
    TiledNegatives,
    contrastive,
    partition,
)
from tests.losses.examples import (
    OBJECTIVES,
    TRANSFORMS,
    adaptive,
    against_queue,
    in_batch,
    learned,
    with_gradient,
)

TEMPERATURES: dict[str, Callable[[], Temperature]] = {
    "fixed": lambda: FixedTemperature(0.2),
    "learned": learned,
    "adaptive": adaptive,
}
SOURCES: dict[str, Callable[[int], Pairs]] = {
    "in-batch": lambda heads: in_batch(0, 4, heads=heads),
    "queue": lambda heads: against_queue(0, 4, 9, heads=heads),
}
REFUSED = {("adaptive", "Debiased"), ("adaptive", "HCL")}


def mined() -> BadPairMining:
    """Flags samples 0 and 3 of four."""
    weighting = BadPairMining(4, warmup_epochs=1, noisy=1.0, faulty=1.0)
    weighting.begin_epoch(0)
    weighting(torch.tensor([0.0, 5.0, 5.0, 10.0]), torch.arange(4))
    weighting.begin_epoch(1)
    return weighting


def values(loss: ContrastiveLoss, pairs: Pairs) -> dict[str, Tensor]:
    """All that comes of a loss, gradients included."""
    pairs = with_gradient(pairs)
    output = loss(pairs)
    output.loss.backward()
    found = {"loss": output.loss.detach(), "losses": output.losses}
    found |= {name: getattr(pairs, name).grad for name in ("query", "positive", "negatives")}
    found |= {name: parameter.grad for name, parameter in loss.named_parameters()}
    return found if output.weights is None else found | {"weights": output.weights}


def in_tiles(pairs: Pairs, temperature: Temperature) -> TiledNegatives:
    return TiledNegatives(pairs, temperature, columns=5)


@pytest.mark.parametrize("transforms", TRANSFORMS)
def test_every_combination(transforms: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """168 of each transform, 1,512 in all: 1,368 that run, 144 that are refused."""
    for name, size in {"_ROWS": 3, "_COLUMNS": 5, "_SQUARE": 3, "_KEPT": 0}.items():
        monkeypatch.setattr(partition, name, size)
    ran = refused = 0
    for objective, temperature, weighting, source, heads in itertools.product(
        OBJECTIVES, TEMPERATURES, (lambda: None, mined), SOURCES, (0, 3)
    ):
        loss = ContrastiveLoss(
            OBJECTIVES[objective](), TEMPERATURES[temperature](), TRANSFORMS[transforms](), weighting()
        )
        pairs, twin = SOURCES[source](heads), copy.deepcopy(loss)
        monkeypatch.setattr(contrastive, "negative_logits", DenseNegatives)
        if (temperature, objective) in REFUSED:
            with pytest.raises(InputError, match=r"^[^\n]*take InfoNCE, DCL or HardestNegative with it$"):
                loss(pairs)
            refused += 1
            continue
        dense = values(loss, pairs)
        monkeypatch.setattr(contrastive, "negative_logits", in_tiles)
        compare(values(twin, pairs), dense, f"{objective}, {temperature}, {loss.weighting}, {source}, {heads} heads")
        ran += 1
    assert (ran, refused) == (152, 16)


def compare(tiled: dict[str, Tensor], dense: dict[str, Tensor], combination: str) -> None:
    assert dense.keys() == tiled.keys()
    for name, value in dense.items():
        assert value.isfinite().all(), (combination, name)
        close = torch.allclose(tiled[name], value, rtol=1e-8, atol=1e-10)
        assert close, (combination, name, tiled[name], value)
    assert dense["query"].any(), combination
    assert "weights" not in dense or dense["weights"].unique().numel() > 1, combination
