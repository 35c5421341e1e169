"""`check_observer` passes observers that are right, and catches each kind of broken one by its property."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from contrast.losses import Loss, LossOutput
from contrast.observation import Average, Observer
from contrast.testing import check_observer
from tests.commands.observers import Margins, Taken


class Own(Observer):
    """An observer of one number, which each broken one computes in its own way."""

    def add(self, loss: Loss, output: LossOutput) -> None:
        self.value = self.of(loss, output)

    def of(self, loss: Loss, output: Any) -> Any:
        return 0.5

    def row(self) -> dict[str, Any]:
        return {"value": self.value}


class NotANumber(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        return float("nan")


class ATensor(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        return output.loss


class NeedsNegatives(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        return float(max(seen.hardest[0].max() for seen in output.negatives))


class NeedsLabels(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        return float(output.labels[output.pairs[0].index].double().mean())


class NeedsOutputs(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        return len(output.raw.features)


class OneHead(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        queries, width = output.pairs[0].query.shape
        return queries / width


class Random(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        return torch.rand(1, generator=torch.Generator().manual_seed(random.SystemRandom().getrandbits(30))).item()


class DrawsFromTorch(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        torch.rand(1)
        return 0.5


class DrawsFromNumpy(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        np.random.rand()
        return 0.5


class ChangesQueries(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        output.pairs[0].query.mul_(2)
        return 0.5


class ChangesParameters(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        for parameter in loss.parameters():
            parameter.data.add_(1)
        return 0.5


class ChangesGradients(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        for parameter in loss.parameters():
            parameter.grad.zero_()
        return 0.5


class CountsSteps(Own):
    counted = 0

    def of(self, loss: Loss, output: Any) -> Any:
        CountsSteps.counted += 1
        return self.counted


class NotCopied(Own):
    def __init__(self) -> None:
        self.function = (each for each in ())


class OfThisProcess(Own):
    """The mean over this process's queries only."""

    def of(self, loss: Loss, output: Any) -> Any:
        return float(output.positive[0].double().mean())


class OfAllProcesses(Own):
    def of(self, loss: Loss, output: Any) -> Any:
        mean = Average(output.loss.device)
        mean.add(output.positive[0].flatten().double().cpu().numpy())
        return mean

    def row(self) -> dict[str, Any]:
        return {"value": self.value.value()}


class WrongScalars(Own):
    def scalars(self, row: Any) -> dict[str, float]:
        return {"value": float("inf")}


BROKEN: dict[Callable[[], Observer], str] = {
    NotANumber: r"what it records is not plain data: .*NotANumber\.row\(\): value is nan",
    ATensor: r"value is a Tensor",
    NeedsNegatives: r"in a step of MoCo with an empty queue, what it records is not plain data: .*value is -inf",
    NeedsLabels: r"it raised TypeError.*A step may have no negatives, no labels",
    NeedsOutputs: r"it raised AttributeError",
    OneHead: r"in a step of two heads, it raised ValueError: too many values",
    Random: r"two rows of the same step differ",
    CountsSteps: r"two rows of the same step differ, .*numbers that an earlier step left",
    DrawsFromTorch: r"it changed the random state of torch",
    DrawsFromNumpy: r"it changed the random state of numpy",
    ChangesQueries: r"it changed query of pairs\[0\]: compute with copies",
    ChangesParameters: r"it changed the parameter temperature\.log_value",
    ChangesGradients: r"it changed the gradient of temperature\.log_value",
    NotCopied: r"it cannot be copied or pickled",
    Taken: r"its name cannot be used: .* has the name 'gradient'",
    WrongScalars: r"scalars\(\): value is inf",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_observer_is_caught_by_its_property(broken: Callable[[], Observer]) -> None:
    with pytest.raises(AssertionError, match=f"^{broken.__name__}: .*{BROKEN[broken]}") as raised:
        check_observer(broken(), processes=False)
    assert "\n" not in str(raised.value)


def test_an_observer_of_one_process_only_is_caught() -> None:
    check_observer(OfThisProcess(), processes=False)
    with pytest.raises(AssertionError, match="two processes with different data record different rows"):
        check_observer(OfThisProcess())


@pytest.mark.parametrize("right", [Margins, OfAllProcesses])
def test_an_observer_that_is_right_passes(right: Callable[[], Observer]) -> None:
    check_observer(right())
