"""DBPM, HCL and the debiased loss against reference numbers, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from contrast import in_batch_pairs
from contrast.losses import HCL, BadPairMining, ContrastiveLoss, Debiased, InfoNCE, bad_pair_weights
from tests.golden_cases import cases, close

normalize = torch.nn.functional.normalize

BASE_TEMPERATURE = 0.2  # of the authors' NT-Xent, which the fixture's losses are


def mined(parameters: dict, arrays: dict[str, Tensor]) -> BadPairMining:
    """A weighting that has seen the epochs of a case's history."""
    mining = BadPairMining(parameters["N"], parameters["warm"], parameters["np_"], parameters["fp"], density=True)
    mining.total.copy_(arrays["history"].sum(dim=1))
    mining.count.fill_(arrays["history"].shape[1])
    mining.begin_epoch(parameters["epoch"])
    return mining


def test_bad_pairs_are_flagged_as_in_the_paper() -> None:
    flagged = 0
    for _, parameters, arrays in cases("dbpm"):
        mining = mined(parameters, arrays)
        close(mining.mean, arrays["paper/mu"])
        close(mining.deviation, arrays["paper/sd"])
        close(mining.total / mining.count, arrays["paper/m"])
        assert torch.equal(mining.is_noisy, arrays["paper/bad_np"])
        assert torch.equal(mining.is_faulty, arrays["paper/bad_fp"])
        flagged += int((mining.is_noisy | mining.is_faulty)[arrays["idx"]].sum())
        pure = bad_pair_weights(
            arrays["per_instance"], arrays["paper/m"][arrays["idx"]], mining.mean, mining.deviation,
            parameters["np_"], parameters["fp"], density=True,
        )  # fmt: skip
        close(pure, arrays["paper/w"])
        close(mining(arrays["per_instance"], arrays["idx"]), arrays["paper/w"])
    assert flagged > 20


def test_dbpm_over_nt_xent() -> None:
    for _, parameters, arrays in cases("dbpm"):
        z1, z2, index = arrays["z1"].requires_grad_(), arrays["z2"].requires_grad_(), arrays["idx"]
        loss = ContrastiveLoss(InfoNCE(), BASE_TEMPERATURE, weighting=mined(parameters, arrays))
        output = loss(in_batch_pairs(normalize(z1, dim=-1), normalize(z2, dim=-1), index))
        output.loss.backward()
        close(output.losses.view(2, -1).mean(dim=0), arrays["per_instance"])
        close(output.weights, torch.cat([arrays["paper/w"]] * 2))
        close(output.loss.detach(), arrays["paper/loss"])
        close(z1.grad, arrays["paper/grad_z1"])
        close(z2.grad, arrays["paper/grad_z2"])


def test_height_one_is_the_density_without_its_factor() -> None:
    for _, parameters, arrays in cases("dbpm"):
        mining = mined(parameters, arrays)
        mining.density = False
        weights = mining(arrays["per_instance"], arrays["idx"])
        flagged = (mining.is_noisy | mining.is_faulty)[arrays["idx"]]
        factor = torch.where(flagged, arrays["paper/sd"] * (2 * torch.pi) ** 0.5, 1.0)
        close(weights, arrays["paper/w"] * factor)
        assert weights.max() <= 1


def test_hcl_and_debiased() -> None:
    debiased = 0
    for _, parameters, arrays in cases("hcl_debiased"):
        z1, z2 = arrays["z1"].requires_grad_(), arrays["z2"].requires_grad_()
        pairs = in_batch_pairs(z1, z2, torch.arange(len(z1)))
        share = parameters["tau_plus"]
        loss = ContrastiveLoss(HCL(share, parameters["beta"]), parameters["tau"])(pairs).loss
        loss.backward()
        close(loss.detach(), arrays["loss"])
        close(z1.grad, arrays["grad_z1"])
        close(z2.grad, arrays["grad_z2"])
        if "loss_chuang" in arrays:
            close(ContrastiveLoss(Debiased(share), parameters["tau"])(pairs).loss.detach(), arrays["loss_chuang"])
            debiased += 1
    assert debiased == 8
