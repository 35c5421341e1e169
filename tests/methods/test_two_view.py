"""TwoView: raw rows in one direction for the losses that ask for them, SimCLR's pairs for all others."""

from __future__ import annotations

import pytest
import torch

from contrast import in_batch_pairs
from contrast.errors import InputError
from contrast.losses import BarlowTwins, ContrastiveLoss, InfoNCE, VICReg
from contrast.methods import BYOL, NNCLR, MoCo, MoCoV3, SimCLR, SimSiam
from contrast.models import ConvNet, MultiHead
from tests.methods.small_methods import HEAD, batch, small


@pytest.mark.parametrize("loss", [BarlowTwins(), VICReg()], ids=["Barlow Twins", "VICReg"])
@pytest.mark.parametrize("heads", [None, 2])
def test_raw_rows_in_one_direction(loss: BarlowTwins | VICReg, heads: int | None) -> None:
    head = HEAD if heads is None else lambda width: MultiHead(width, HEAD, heads)
    method = small("TwoView", loss=loss, head=head)
    given = batch(0)
    (pairs,) = method.pairs(given)
    first, second = (method.head(method.backbone(view)) for view in given.inputs)
    torch.testing.assert_close(pairs.query, first)
    torch.testing.assert_close(pairs.positive, second)
    assert pairs.negatives.shape[-2] == 0
    assert pairs.view.tolist() == [0] * 8
    output = method.training_step(given, 0)
    output["loss"].backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def test_a_loss_of_both_directions_gets_simclrs_pairs() -> None:
    method = small("TwoView", loss=ContrastiveLoss(InfoNCE(), 0.3))
    given = batch(0)
    (pairs,) = method.pairs(given)
    first, second = (torch.nn.functional.normalize(method.head(method.backbone(view))) for view in given.inputs)
    expected = in_batch_pairs(first, second, given.index)
    torch.testing.assert_close(pairs.query, expected.query)
    torch.testing.assert_close(pairs.negatives, expected.negatives)
    assert torch.equal(pairs.view, expected.view)


@pytest.mark.parametrize("method", [SimCLR, MoCo, NNCLR, MoCoV3, SimSiam, BYOL])
@pytest.mark.parametrize("loss", [BarlowTwins(), VICReg()], ids=["Barlow Twins", "VICReg"])
def test_methods_of_both_directions_refuse_losses_of_one(method: type, loss: BarlowTwins | VICReg) -> None:
    message = rf"^{method.__name__} cannot host {type(loss).__name__}, which takes one direction: use --model TwoView$"
    with pytest.raises(InputError, match=message):
        method(ConvNet((4, 8), channels=1, image_size=8), head=HEAD, loss=loss)


def test_the_papers_head() -> None:
    with torch.device("meta"):
        method = small("TwoView", head=None)
    shapes = [tuple(each.weight.shape) for each in method.head.layers if isinstance(each, torch.nn.Linear)]
    assert shapes == [(8192, 8), (8192, 8192), (8192, 8192)]
    assert isinstance(method.loss, BarlowTwins)
