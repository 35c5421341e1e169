"""What a piece is built with wrongly is refused in one line that names the value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch

from contrast import Pairs
from contrast.banks import KeyQueue
from contrast.errors import InputError
from contrast.losses import (
    HCL,
    AdaptiveTemperature,
    BadPairMining,
    ContrastiveLoss,
    Debiased,
    FalseNegativeAttraction,
    FalseNegativeRemoval,
    HardNegativeMixing,
    InfoNCE,
    NegativeInterpolation,
    PositiveExtrapolation,
    SameClassRemoval,
)
from contrast.losses.candidates import BetaQuantile
from contrast.losses.feature_transformation import require_one_of
from tests.losses.examples import in_batch, rows

NAN = float("nan")
INF = float("inf")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: AdaptiveTemperature(width=0), "width 0"),
        (lambda: AdaptiveTemperature(hidden_width=-3), "hidden_width -3"),
        (lambda: AdaptiveTemperature(lowest=0), "0 < lowest < highest < inf, not 0 and 0.5"),
        (lambda: AdaptiveTemperature(lowest=-0.2), "not -0.2 and"),
        (lambda: AdaptiveTemperature(lowest=0.5), "not 0.5 and 0.5"),
        (lambda: AdaptiveTemperature(lowest=NAN), "not nan and"),
        (lambda: AdaptiveTemperature(highest=NAN), "and nan"),
        (lambda: AdaptiveTemperature(highest=INF), "and inf"),
        (lambda: AdaptiveTemperature(beta=-0.01), "beta -0.01"),
        (lambda: AdaptiveTemperature(beta=NAN), "beta nan"),
        (lambda: AdaptiveTemperature(beta=INF), "beta inf"),
        (lambda: BadPairMining(), "BadPairMining of None samples"),
        (lambda: BadPairMining(0), "BadPairMining of 0 samples"),
        (lambda: BadPairMining(5, warmup_epochs=0), "warmup_epochs 0"),
        (lambda: BadPairMining(5, noisy=-1), "noisy -1"),
        (lambda: BadPairMining(5, faulty=NAN), "faulty nan"),
        (lambda: Debiased(1.0), "Debiased's positive_share 1 "),
        (lambda: Debiased(-0.1), "Debiased's positive_share -0.1"),
        (lambda: Debiased(NAN), "Debiased's positive_share nan"),
        (lambda: HCL(1.5), "HCL's positive_share 1.5"),
        (lambda: HCL(beta=-1), "HCL's beta -1"),
        (lambda: HCL(beta=NAN), "HCL's beta nan"),
        (lambda: HCL(beta=INF), "HCL's beta inf"),
        (lambda: BetaQuantile(0), "alpha 0 "),
        (lambda: PositiveExtrapolation(alpha=-2), "alpha -2 "),
        (lambda: PositiveExtrapolation(alpha=NAN), "alpha nan "),
        (lambda: PositiveExtrapolation(alpha=INF), "alpha inf "),
        (lambda: PositiveExtrapolation(start_epoch=-1), "start_epoch -1 "),
        (lambda: NegativeInterpolation(alpha=0), "alpha 0 "),
        (lambda: NegativeInterpolation(start_epoch=-4), "start_epoch -4 "),
        (lambda: HardNegativeMixing(hardest=0), "hardest 0 "),
        (lambda: HardNegativeMixing(pairs=-1), "pairs -1 "),
        (lambda: HardNegativeMixing(queries=-2), "queries -2 "),
        (lambda: HardNegativeMixing(start_epoch=-3), "start_epoch -3 "),
        (lambda: SameClassRemoval(), "SameClassRemoval learns from labels"),
        (lambda: KeyQueue(0), "width=0"),
        (lambda: KeyQueue(4, size=0), "size=0"),
    ],
)
def test_the_value_is_named(build: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError) as refusal:
        build()
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_bounds_themselves_are_taken() -> None:
    AdaptiveTemperature(beta=0)
    BadPairMining(1, warmup_epochs=1, noisy=0, faulty=INF)
    Debiased(0)
    HCL(0, 0)
    HardNegativeMixing(hardest=1, pairs=0, queries=0, start_epoch=0)
    PositiveExtrapolation(alpha=0.01, start_epoch=0)
    KeyQueue(1, 1)


def test_negatives_are_interpolated_once() -> None:
    with pytest.raises(InputError, match="mixes already: name it once"):
        ContrastiveLoss(InfoNCE(), 0.1, [NegativeInterpolation(), NegativeInterpolation()])(in_batch(0, 3))


def test_extra_positives_come_with_their_samples() -> None:
    with pytest.raises(InputError, match="extra_positives and extra_positive_index together"):
        dataclasses.replace(in_batch(0, 3), extra_positives=rows(0, 6, 2, 6))


def test_false_negatives_that_cannot_be_sought_are_refused() -> None:
    for made in (FalseNegativeRemoval, FalseNegativeAttraction):
        for wrong in ({"most": 0}, {"start_epoch": -1}):
            with pytest.raises(InputError, match=rf"^{made.__name__} of most="):
                made(**wrong)
    mixed_first = [NegativeInterpolation(), FalseNegativeAttraction(1, -1.0)]
    with pytest.raises(InputError, match="put it first"):
        ContrastiveLoss(InfoNCE(), 0.1, mixed_first)(in_batch(0, 3))
    with pytest.raises(InputError, match="without extra positives: list it once"):
        ContrastiveLoss(InfoNCE(), 0.1, [FalseNegativeAttraction(1, -1.0)] * 2)(in_batch(0, 3))


def test_pairs_that_do_not_belong_together() -> None:
    pairs = in_batch(0, 3)
    parts = (pairs.query, pairs.positive, pairs.negatives, pairs.index, pairs.negative_index)
    with pytest.raises(InputError, match="own_negatives and own_negative_index together"):
        Pairs(*parts, own_negatives=rows(0, 6, 2, 6))
    with pytest.raises(InputError, match="own_negatives and own_negative_index together"):
        Pairs(*parts, own_negative_index=torch.zeros(6, 2, dtype=torch.int64))


def test_what_has_a_coefficient_is_one_of_three() -> None:
    # Not through the classes: under test their arguments' types are checked before they are.
    with pytest.raises(InputError, match="each 'row' must be one of step, pair, dimension"):
        require_one_of("row", ("step", "pair", "dimension"))
