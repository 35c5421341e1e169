"""What is trained by one process and by several: a row of the matrix each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from contrast.banks import HNSW, IVF, FaissBank, Hardest, KeyQueue, Mining, Stratified
from contrast.losses import (
    DCL,
    DCLW,
    HCL,
    LOOK,
    AdaptiveTemperature,
    BadPairMining,
    BarlowTwins,
    ContrastiveLoss,
    Debiased,
    FalseNegativeAttraction,
    FalseNegativeRemoval,
    HardestNegative,
    HardNegativeMixing,
    InfoNCE,
    LearnedTemperature,
    NegativeInterpolation,
    Objective,
    PairTransform,
    PositiveExtrapolation,
    SameClassRemoval,
    SupCon,
    VICReg,
)
from contrast.methods import BYOL, NNCLR, ContrastiveMethod, MoCo, MoCoV3, SimCLR, SimSiam, TwoView
from contrast.models import Backbone, MLPHead, MultiHead

__all__ = ["CASES", "LABELS", "PIXELS", "SAMPLES"]

SAMPLES, PIXELS = 40, 5
LABELS = torch.arange(SAMPLES) % 4
_WIDTH = 6


class _Plain(Backbone):
    """Two layers without any norm, which would look at its own process's batch alone."""

    def __init__(self) -> None:
        super().__init__(8, channels=1)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS**2, 12), nn.Tanh(), nn.Linear(12, 8))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features

    def describe(self) -> dict[str, Any]:
        return {}


_HEAD = partial(MLPHead, hidden_width=16, output_width=_WIDTH)
_HEADS = partial(MultiHead, head=_HEAD, heads=2)
_QUEUE = partial(KeyQueue, size=30)


def _formula(
    objective: Objective | None = None,
    temperature: Any = 0.3,
    transforms: Sequence[PairTransform] = (),
    weight: Any = None,
) -> ContrastiveLoss:
    return ContrastiveLoss(objective or InfoNCE(), temperature, transforms, weight)


def _simclr(loss: Any, head: Any = _HEAD, **more: Any) -> ContrastiveMethod:
    return SimCLR(_Plain(), head, loss, **more)


def _moco(loss: Any = None, head: Any = _HEAD, bank: Any = _QUEUE, **more: Any) -> ContrastiveMethod:
    return MoCo(_Plain(), head, loss or _formula(), bank, momentum=0.9, **more)


def _mixing() -> HardNegativeMixing:
    return HardNegativeMixing(hardest=6, pairs=4, queries=3, start_epoch=0)


def _mining() -> BadPairMining:
    return BadPairMining(SAMPLES, warmup_epochs=1, noisy=0.3, faulty=0.3)


def _bank(mining: Mining, **more: Any) -> Any:
    return partial(FaissBank, size=SAMPLES if more.get("per_sample") else 30, mining=mining, warmup_steps=1, **more)


# Begun after the first step and in use from the third on; they look at so little that they miss neighbours.
_IVF = IVF(lists=4, effort=1, above=8, every_n_steps=1)
_HNSW = HNSW(links=2, effort=6, above=8, every_n_steps=1)

Made = Callable[[], ContrastiveMethod]

_METHODS: dict[str, Made] = {
    "SimCLR": lambda: _simclr(_formula()),
    "MoCo": _moco,
    "MoCo, both directions": lambda: _moco(symmetric=True),
    "MoCo v3": lambda: MoCoV3(_Plain(), head=_HEAD, predictor=_HEAD, loss=_formula()),
    "NNCLR": lambda: NNCLR(_Plain(), head=_HEAD, predictor=_HEAD, bank=_QUEUE, loss=_formula()),
    "SimSiam": lambda: SimSiam(_Plain(), head=_HEAD, predictor=_HEAD),
    "BYOL": lambda: BYOL(_Plain(), head=_HEAD, predictor=_HEAD),
    "Barlow Twins": lambda: TwoView(_Plain(), head=_HEAD, loss=BarlowTwins(0.1)),
    "VICReg": lambda: TwoView(_Plain(), head=_HEAD, loss=VICReg()),
    "SupCon": lambda: _simclr(SupCon(LABELS, 0.3)),
    "LOOK": lambda: _moco(LOOK(LABELS, 4, 0.3)),
}
_OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "DCL": DCL,
    "DCLW": DCLW,
    "debiased": Debiased,
    "HCL": HCL,
    "hardest negative": HardestNegative,
}
_TRANSFORMS: dict[str, Callable[[], list[PairTransform]]] = {
    "MoCHi": lambda: [_mixing()],
    "FT, positives": lambda: [PositiveExtrapolation()],
    "FT, negatives": lambda: [NegativeInterpolation()],
    "class oracle": lambda: [SameClassRemoval(LABELS)],
    "false-negative removal": lambda: [FalseNegativeRemoval(most=2, threshold=0.0)],
    "false-negative attraction": lambda: [FalseNegativeAttraction(most=2, threshold=0.0)],
}
_BANKS: dict[str, Any] = {
    "FaissBank, hardest": _bank(Hardest(6)),
    "FaissBank, a row a sample": _bank(Hardest(6), per_sample=True),
    "FaissBank, strata": _bank(Stratified(3, 3, 3, pool=12), per_sample=True),
    "FaissBank, IVF": _bank(Hardest(6), per_sample=True, approximate=_IVF),
    "FaissBank, HNSW": _bank(Hardest(6), per_sample=True, approximate=_HNSW),
    "FaissBank, sharded": _bank(Hardest(6), per_sample=True, sharded=True),
    "FaissBank, sharded strata": _bank(Stratified(3, 3, 3, pool=12), per_sample=True, sharded=True),
    "FaissBank, sharded IVF": _bank(Hardest(6), per_sample=True, sharded=True, approximate=_IVF),
}


def _of_objective(method: Callable[..., ContrastiveMethod], made: Callable[[], Objective]) -> ContrastiveMethod:
    return method(_formula(made()))


def _of_transforms(method: Callable[..., ContrastiveMethod], made: Callable[[], Any]) -> ContrastiveMethod:
    return method(_formula(transforms=made()))


CASES: dict[str, Made] = {
    **_METHODS,
    **{f"SimCLR, {name}": partial(_of_objective, _simclr, made) for name, made in _OBJECTIVES.items()},
    **{f"MoCo, {name}": partial(_of_objective, _moco, made) for name, made in _OBJECTIVES.items()},
    **{f"SimCLR, {name}": partial(_of_transforms, _simclr, made) for name, made in _TRANSFORMS.items()},
    **{f"MoCo, {name}": partial(_of_transforms, _moco, made) for name, made in _TRANSFORMS.items()},
    **{f"MoCo, {name}": partial(_moco, bank=bank) for name, bank in _BANKS.items()},
    "SimCLR, FaissBank beside the batch": lambda: _simclr(_formula(), bank=_BANKS["FaissBank, a row a sample"]),
    "SimCLR, learned temperature": lambda: _simclr(_formula(temperature=LearnedTemperature(0.3))),
    "SimCLR, 2 heads": lambda: _simclr(_formula(), head=_HEADS),
    "SimCLR, AMCL": lambda: _simclr(_formula(temperature=AdaptiveTemperature(_WIDTH, 8)), head=_HEADS),
    "MoCo, AMCL": lambda: _moco(_formula(temperature=AdaptiveTemperature(_WIDTH, 8)), head=_HEADS),
    "SimCLR, DBPM": lambda: _simclr(_formula(weight=_mining())),
    "MoCo, MoCHi + DCL + DBPM": lambda: _moco(_formula(DCL(), 0.3, [_mixing()], _mining())),
}
"""Made anew at each call, of weights that depend on torch's seed alone."""
