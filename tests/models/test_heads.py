"""Heads against nets written out by hand, and as factories of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from contrast.errors import InputError
from contrast.models import Head, LinearHead, MLPHead, MoCoV2Head, MultiHead, SimCLRHead


def kinds(head: MLPHead) -> list[tuple[str, ...]]:
    """Each layer's class and the names of its parameters."""
    return [(type(each).__name__, *(name for name, _ in each.named_parameters())) for each in head.layers]


def test_simclrs_layers_are_the_authors() -> None:
    head = SimCLRHead(6)
    assert kinds(head) == [
        ("Linear", "weight"),
        ("BatchNorm1d", "weight", "bias"),
        ("ReLU",),
        ("Linear", "weight"),
        ("BatchNorm1d", "weight"),
    ]
    assert [each.out_features for each in head.layers if isinstance(each, nn.Linear)] == [6, 128]
    assert kinds(SimCLRHead(6, layers=3)) == kinds(head)[:3] + kinds(head)
    features = torch.randn(9, 6)
    first, second = head.layers[0].weight, head.layers[3].weight
    hidden = features @ first.T
    hidden = ((hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()).clamp(min=0)
    output = hidden @ second.T
    output = (output - output.mean(0)) / (output.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(head(features), output, atol=1e-4, rtol=1e-4)


def test_moco_v2s_layers_are_the_authors() -> None:
    head = MoCoV2Head(6)
    assert kinds(head) == [("Linear", "weight", "bias"), ("ReLU",), ("Linear", "weight", "bias")]
    assert [each.out_features for each in head.layers if isinstance(each, nn.Linear)] == [6, 128]
    features = torch.randn(4, 6)
    hidden = (features @ head.layers[0].weight.T + head.layers[0].bias).clamp(min=0)
    torch.testing.assert_close(head(features), hidden @ head.layers[2].weight.T + head.layers[2].bias)


def test_general_head() -> None:
    assert kinds(MLPHead(4, layers=1)) == [("Linear", "weight", "bias")]
    assert kinds(MLPHead(4, layers=1, bias=False)) == [("Linear", "weight")]
    moco_v3 = MLPHead(4, 8, 5, layers=2, batch_norm=True, final_batch_norm=True, final_scale=False)
    assert kinds(moco_v3)[-2:] == [("Linear", "weight"), ("BatchNorm1d",)]
    assert list(moco_v3.layers[-1].state_dict()) == ["running_mean", "running_var", "num_batches_tracked"]
    widths = [(each.in_features, each.out_features) for each in MLPHead(4, 8, 5, layers=3).layers[::2]]
    assert widths == [(4, 8), (8, 8), (8, 5)]


@pytest.mark.parametrize("kind", [LinearHead, MLPHead, SimCLRHead, MoCoV2Head])
def test_first_argument_is_the_width_and_outputs_are_not_normalised(kind: type[Head]) -> None:
    head = kind(7, output_width=11)
    embeddings = head(3 * torch.randn(8, 7))
    assert embeddings.shape == (8, head.output_width) == (8, 11)
    assert head.input_width == 7
    assert (embeddings.norm(dim=1) - 1).abs().min() > 1e-3


def test_several_heads_stack_and_do_not_share() -> None:
    head = MultiHead(4, partial(LinearHead, output_width=3), heads=2)
    features = torch.randn(5, 4)
    out = head(features)
    assert (out.shape, head.output_width) == ((2, 5, 3), 3)
    torch.testing.assert_close(out[1], head.heads[1](features))
    assert not torch.equal(out[0], out[1])
    assert len(MultiHead(4).heads) == 3


def test_a_configuration_gives_a_factory() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--head", type=Callable[[int], Head])
    given = {"class_path": "SimCLRHead", "init_args": {"hidden_width": 9, "output_width": 2}}
    make = parser.instantiate(parser.parse_object({"head": given})).head
    head = make(5)
    assert isinstance(head, SimCLRHead)
    assert [each.out_features for each in head.layers if isinstance(each, nn.Linear)] == [9, 2]
    several = {"class_path": "MultiHead", "init_args": {"heads": 2, "head": given}}
    made = parser.instantiate(parser.parse_object({"head": several})).head(5)
    assert made(torch.randn(3, 5)).shape == (2, 3, 2)


def test_refusals_name_the_value() -> None:
    with pytest.raises(InputError, match="LinearHead's input_width 0"):
        LinearHead(0)
    with pytest.raises(InputError, match="SimCLRHead's output_width -3"):
        SimCLRHead(4, output_width=-3)
    with pytest.raises(InputError, match="MLPHead's hidden_width 0"):
        MLPHead(4, hidden_width=0)
    with pytest.raises(InputError, match="MLPHead's layers 0"):
        MLPHead(4, layers=0)
    with pytest.raises(InputError, match="MultiHead's heads 0"):
        MultiHead(4, heads=0)
