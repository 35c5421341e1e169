"""NNCLR: two steps of reference numbers, queue and pointer; what is remembered, looked up and refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrast.banks import FaissBank, KeyQueue
from contrast.data.batch import Batch
from contrast.errors import InputError
from contrast.losses import DCL, BYOLLoss, ContrastiveLoss, InfoNCE, SimSiamLoss
from contrast.methods import NNCLR
from contrast.models import MLPHead, MultiHead
from tests.golden_cases import cases, close
from tests.methods.small_methods import HEAD, batch, small

normalize = nn.functional.normalize


class Given(nn.Module):
    """Returns rows that are given, call by call."""

    def __init__(self, *rows: Tensor) -> None:
        super().__init__()
        self.rows = iter(rows)

    def forward(self, inputs: Tensor) -> Tensor:
        return next(self.rows)


def given_method(parameters: dict[str, Any], queue: Tensor) -> NNCLR:
    method: NNCLR = small("NNCLR", loss=ContrastiveLoss(InfoNCE(), parameters["tau"]))
    method.bank = KeyQueue(parameters["D"], parameters["Q"]).double()
    method.bank.keys.copy_(queue)
    method.bank.filled.fill_(parameters["Q"])
    return method


def test_two_steps_of_reference_numbers() -> None:
    seen = 0
    for _, parameters, arrays in cases("nnclr"):
        method = given_method(parameters, arrays["queue_before"])
        for step in ("step0", "step1"):
            now = {name.removeprefix(f"{step}."): value for name, value in arrays.items() if name.startswith(step)}
            p1, p2 = now["p1"].requires_grad_(), now["p2"].requires_grad_()
            z1, z2 = now["z1"].requires_grad_(), now["z2"].requires_grad_()
            method.head, method.predictor = Given(z1, z2), Given(p1, p2)
            for rows, expected in ((z1, now["nn1"]), (z2, now["nn2"])):
                close(method.neighbours(rows), expected)
            views = torch.zeros(2, parameters["N"], 1, 8, 8)
            output = method.training_step(Batch((views[0], views[1]), torch.arange(parameters["N"])), 0)
            output["loss"].backward()
            method.on_after_backward()
            close(output["loss"].detach(), now["loss"])
            close(p1.grad, now["grad_p1"])
            close(p2.grad, now["grad_p2"])
            assert z1.grad is None
            assert z2.grad is None
            close(method.bank.keys, now["queue_after"])
            assert method.bank.pointer == now["ptr_after"][0]
            seen += 1
    assert seen == 14


def test_neighbours_are_real_rows_and_the_first_view_alone_is_remembered() -> None:
    method = small("NNCLR")
    given = batch(0)
    z1 = method.embed(given.inputs[0]).detach()
    first, second = method.pairs(given)
    torch.testing.assert_close(first.query, z1)  # no real row yet
    torch.testing.assert_close(second.query, method.embed(given.inputs[1]).detach())
    assert not first.query.requires_grad
    assert first.positive.requires_grad
    assert (first.view.unique().tolist(), second.view.unique().tolist()) == ([0], [1])
    projected = method.head(method.backbone(given.inputs[1]))
    torch.testing.assert_close(first.positive, normalize(method.predictor(projected), dim=-1))  # of raw rows
    assert method.bank.filled == 0  # written once backward is done
    method.on_after_backward()
    assert method.bank.index.tolist() == [*range(8), *[-1] * 16]
    torch.testing.assert_close(method.bank.keys[:8], z1)
    again = batch(1, start=8)
    near = method.pairs(again)[0].query
    scores = method.embed(again.inputs[0]).detach() @ z1.T
    torch.testing.assert_close(near, z1[scores.argmax(dim=1)])


def test_other_objectives_fit() -> None:
    method = small("NNCLR", loss=ContrastiveLoss(DCL(), 0.2))
    for step in range(2):
        given = batch(step, start=8 * step)
        pairs = method.pairs(given)
        found = method.loss(*pairs).loss
        expected = []
        for each in pairs:
            logits = each.query @ each.positive.T / 0.2
            others = logits.masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)
            expected.append(others.logsumexp(dim=1) - logits.diagonal())
        torch.testing.assert_close(found, torch.cat(expected).mean())
        method.on_after_backward()


def test_the_papers_values() -> None:
    with torch.device("meta"):
        method = small("NNCLR", head=None, predictor=None, bank=None)
    assert (method.bank.size, method.head.output_width, method.predictor.output_width) == (98304, 256, 256)
    assert sum(isinstance(each, nn.Linear) for each in method.head.layers) == 3
    assert method.loss.temperature.value == 0.1


def test_what_is_refused_in_one_line() -> None:
    several = lambda width: MultiHead(width, HEAD, 2)  # noqa: E731  # a factory
    with pytest.raises(InputError, match=r"^NNCLR takes one projection head, not a MultiHead"):
        small("NNCLR", head=several)
    with pytest.raises(InputError, match=r"^NNCLR takes one predictor, not a MultiHead"):
        small("NNCLR", predictor=several)
    with pytest.raises(InputError, match=r"predictor has output_width 9 and its head 8.*make them equal$"):
        small("NNCLR", predictor=lambda width: MLPHead(width, output_width=9))
    for loss in (SimSiamLoss(), BYOLLoss()):
        with pytest.raises(InputError, match=rf"^NNCLR cannot host {type(loss).__name__}: .*use --model SimSiam$"):
            small("NNCLR", loss=loss)


@pytest.mark.parametrize(
    "bank", [lambda width: KeyQueue(width, 24), lambda width: FaissBank(width, 24, per_sample=True)]
)
@pytest.mark.parametrize("nearest", [1, 3])
def test_a_positive_is_the_mean_of_the_nearest_rows(bank: Any, nearest: int) -> None:
    method = small("NNCLR", bank=bank, nearest=nearest)
    rows = normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
    assert torch.equal(method.neighbours(rows), rows)  # nothing is stored
    keys = normalize(torch.randn(12, 8, generator=torch.Generator().manual_seed(2)), dim=-1)
    method.bank.store(keys, torch.arange(12))
    for row, found in zip(rows, method.neighbours(rows), strict=True):
        order = (keys @ row).argsort(descending=True)[:nearest]
        torch.testing.assert_close(found, normalize(keys[order].mean(dim=0), dim=0))


def test_fewer_rows_than_neighbours_are_averaged() -> None:
    method = small("NNCLR", nearest=5)
    keys = normalize(torch.randn(2, 8, generator=torch.Generator().manual_seed(2)), dim=-1)
    method.bank.store(keys, torch.arange(2))
    torch.testing.assert_close(method.neighbours(keys[:1]), normalize(keys.mean(dim=0, keepdim=True), dim=-1))


def test_no_neighbour_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="nearest 0 gives a query no positive"):
        small("NNCLR", nearest=0)
