"""SimCLR's views encoded one by one or as one batch, and what each means for batch norm."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from contrast.losses import ContrastiveLoss, InfoNCE
from contrast.methods import SimCLR
from contrast.models import ConvNet, MLPHead, MultiHead
from tests.methods.small_methods import HEAD, batch


def simclr(joint: bool, batch_norm: bool = True, heads: int = 0) -> SimCLR:
    torch.manual_seed(0)
    one = partial(HEAD, batch_norm=batch_norm)
    head = partial(MultiHead, head=one, heads=heads) if heads else one
    backbone = ConvNet((4, 8), channels=1, image_size=8)
    method = SimCLR(backbone, head, ContrastiveLoss(InfoNCE(), 0.3), joint_batch_norm=joint)
    if not batch_norm:
        method.eval()  # the backbone's norms take their running statistics
    return method.double()


@pytest.mark.parametrize("heads", [0, 3])
def test_joint_batch_norm_takes_the_statistics_of_both_views(heads: int) -> None:
    given = batch(0)
    views = tuple(view.double() for view in given.inputs)
    given = given._replace(inputs=views) if hasattr(given, "_replace") else type(given)(views, given.index)
    apart, joint = simclr(False, heads=heads), simclr(True, heads=heads)
    rows = torch.nn.functional.normalize(joint.head(joint.backbone(torch.cat(views))), dim=-1)
    (pairs,) = simclr(True, heads=heads).pairs(given)
    torch.testing.assert_close(pairs.query, rows)
    (others,) = apart.pairs(given)
    assert (pairs.query - others.query).abs().max() > 1e-3
    each = [torch.nn.functional.normalize(simclr(False, heads=heads).embed(view), dim=-1) for view in views]
    torch.testing.assert_close(others.query, torch.cat(each, dim=-2))


def test_without_batch_statistics_both_are_the_same() -> None:
    given = batch(0)
    given = type(given)(tuple(view.double() for view in given.inputs), given.index)
    apart, joint = (simclr(each, batch_norm=False).pairs(given)[0] for each in (False, True))
    torch.testing.assert_close(apart.query, joint.query)
    torch.testing.assert_close(apart.positive, joint.positive)
    assert isinstance(simclr(True).head, MLPHead)
    assert not SimCLR(ConvNet((4,), channels=1, image_size=8)).joint_batch_norm  # the default of old and new runs
