"""AMCL's eqs. 2.1 and 2.4 against reference numbers, temperatures given, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from contrast import Pairs
from contrast.losses import ContrastiveLoss, HardestNegative, Temperature, amcl_logits
from tests.golden_cases import cases, close


class Given(Temperature):
    """Temperatures that are given: the positives' first, then the own negatives'; none for shared negatives."""

    def __init__(self, positive: Tensor, own: Tensor, beta: float, width: int) -> None:
        super().__init__()
        self.taus, self.beta, self.width = {positive.shape: positive, own.shape: own}, beta, width

    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        if not scores.numel():
            return scores
        return amcl_logits(scores, self.taus[scores.shape], self.beta, self.width)

    def of_score(self, score: Tensor) -> Tensor:
        raise NotImplementedError


def outputs(parameters: dict, arrays: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The loss and each query's, of raw rows compared by their cosines."""
    z, positive, negatives = (torch.nn.functional.normalize(arrays[name], dim=-1) for name in ("z", "z_pos", "z_neg"))
    if parameters["eq"] == "2.4":  # the positive is a candidate too, and there at a temperature of its own
        negatives = torch.cat([positive[:, :, None], negatives], dim=2)
    heads, count, candidates, width = negatives.shape
    pairs = Pairs(
        z, positive, z.new_zeros(heads, 0, width), torch.arange(count), torch.zeros(0, dtype=torch.int64),
        own_negatives=negatives, own_negative_index=torch.full((count, candidates), -1),
    )  # fmt: skip
    temperature = Given(arrays["tau_pos"], arrays["tau_neg"], parameters["beta"], width)
    output = ContrastiveLoss(HardestNegative(), temperature)(pairs)
    return output.loss, output.losses


def test_hardest_negative() -> None:
    seen = []
    for _, parameters, arrays in cases("amcl"):
        if parameters["eq"] not in ("2.1", "2.4"):
            continue
        leaves = {name: arrays[name].requires_grad_() for name in ("z", "z_pos", "z_neg", "tau_pos", "tau_neg")}
        loss, losses = outputs(parameters, arrays)
        loss.backward()
        close(loss.detach(), arrays["loss"])
        close(losses, arrays["per_anchor"])
        for name, leaf in leaves.items():
            close(leaf.grad, arrays[f"grad_{name}"])
        seen.append(parameters["eq"])
    assert (seen.count("2.1"), seen.count("2.4")) == (4, 4)
