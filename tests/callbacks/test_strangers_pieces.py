"""Pieces from outside the package are recorded as the built-in ones are: nothing asks for a class by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from contrast import in_batch_pairs
from contrast.banks import MemoryBank, Negatives
from contrast.banks.bank import nearest_of_others
from contrast.callbacks import BankRecorder, FlaggedPairs, Metrics, PairRecorder, Recorder
from contrast.doctor import examine
from contrast.errors import InputError
from contrast.losses import ContrastiveLoss, InfoNCE, LogitLoss, Loss, LossOutput, PairWeighting, SupCon, Temperature
from contrast.methods import BYOL, NNCLR, SimCLR, SimSiam
from contrast.models import ConvNet, LinearHead
from contrast.observation import observe
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.callbacks.fitting import SAMPLES, fit
from tests.doctor.test_rules import changed
from tests.losses.examples import in_batch, rows


class Scheduled(Temperature):
    """τ falls from step to step."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 0.5

    def begin_step(self, epoch: int, step: int) -> None:
        self.value = 0.5 / (1 + step)

    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return scores / self.value

    def of_score(self, score: Tensor) -> Tensor:
        return score / self.value

    def single(self) -> Tensor:
        return torch.tensor(self.value)


class ByLength(Temperature):
    """A τ for each pair, from its embeddings."""

    by_pair = True

    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return scores / self.of_pairs(query, other)

    def of_pairs(self, query: Tensor, other: Tensor) -> Tensor:
        return 0.2 + 0.1 * (query[..., 0] - other[..., 0]).square()


class FlagsEven(PairWeighting):
    """Half the weight for even samples, which it flags from epoch 1 on."""

    warmup_epochs = 1

    def forward(self, losses: Tensor, index: Tensor) -> Tensor:
        return torch.where(index % 2 == 0, 0.5, 1.0).to(losses.dtype)

    def flags(self) -> dict[str, Tensor]:
        place = torch.arange(SAMPLES)
        return {"even": place % 2 == 0, "noisy": place == 4}

    def flag_statistics(self) -> dict[str, float]:
        return {"share": 0.5}


class Halves(MemoryBank):
    """Keeps every key, and searches only the older half of them."""

    index: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size, self.recall_at, self.keys = 10_000, 5, torch.zeros(0, width)
        self.register_buffer("index", torch.zeros(0, dtype=torch.int64))

    def negatives(self, query: Tensor, index: Tensor) -> Negatives:
        return Negatives(self.keys, self.index)

    def stored(self) -> tuple[Tensor, Tensor]:
        return self.keys, self.index

    def filled_rows(self) -> int:
        return len(self.index)

    def about(self, row: Tensor) -> tuple[Tensor, Tensor]:
        return self.index[row], torch.zeros_like(row)

    def store(self, keys: Tensor, index: Tensor) -> None:
        self.keys, self.index = torch.cat([self.keys, keys]), torch.cat([self.index, index])

    def recall(self, query: Tensor, index: Tensor, count: int) -> float | None:
        half = len(self.index) // 2
        if not half:
            return None
        exact = self.neighbours(query, index, count).row
        found = nearest_of_others(query, index, self.keys[:half], self.index[:half], count).row
        return float((found[:, :, None] == exact[:, None]).sum() / exact.numel())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two epochs of three steps with a stranger's temperature, weighting and bank."""
    path = tmp_path_factory.mktemp("run")
    folder = RunFolder(path)
    torch.manual_seed(0)
    loss = ContrastiveLoss(InfoNCE(), Scheduled(), weighting=FlagsEven())
    method = SimCLR(ConvNet((4, 8), channels=1), partial(LinearHead, output_width=6), loss, bank=Halves)
    recorders = [Recorder(folder, 1), Metrics(folder, 1), FlaggedPairs(folder), PairRecorder(folder)]
    fit(path, method, [*recorders, BankRecorder(folder, every_n_steps=1, every_n_epochs=0)])
    return folder


def test_a_scheduled_temperature_has_its_rows(folder: RunFolder) -> None:
    expected = [0.5 / (1 + step) for step in range(6)]
    observed = [row["temperature"]["value"] for row in read_rows(folder.scores) if "positive" in row]
    assert observed == pytest.approx(expected)
    metrics = [row["train/temperature"] for row in read_rows(folder.metrics) if "train/temperature" in row]
    assert metrics == pytest.approx(expected)


def test_a_temperature_by_pair_has_its_rows() -> None:
    pairs = in_batch(0, 6)
    loss = ContrastiveLoss(InfoNCE(), ByLength())
    (head,) = observe(loss, loss(pairs)).row()["temperature"]["heads"]
    tau = ByLength().of_pairs(pairs.query, pairs.positive)
    assert head["positive"]["mean"] == pytest.approx(tau.mean().item())
    assert head["negative"]["std"] > 0


def test_a_temperature_without_a_tau_has_no_rows() -> None:
    class Squared(Temperature):
        def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
            return 5 * scores.sign() * scores.square()

    loss = ContrastiveLoss(InfoNCE(), Squared())
    assert "temperature" not in observe(loss, loss(in_batch(0, 6))).row()


def test_the_doctor_reads_the_bounds_of_any_temperature(tmp_path: Path) -> None:
    class_path = "model.init_args.loss.init_args.temperature.class_path"
    (found,) = examine(changed("temperature-bound", tmp_path, {class_path: "pieces.Swinging"})).findings
    assert (found.rule, found.seen) == ("temperature", "The temperature is at its lowest value: 0.15.")


def test_a_weighting_that_flags_samples_is_recorded(folder: RunFolder) -> None:
    (row,) = read_rows(folder.flagged)  # of the second epoch: the first is its warm-up
    assert row["epoch"] == 1
    assert (row["share"], row["even"], row["noisy"]) == (0.5, list(range(0, SAMPLES, 2)), [4])
    metrics = [row for row in read_rows(folder.metrics) if "bad_pairs/even" in row]
    assert len(metrics) == 6
    assert sum(row["bad_pairs/even"] for row in metrics) == pytest.approx(3.0)
    assert all(row["bad_pairs/weight"] == pytest.approx(0.5) for row in metrics)
    gallery = list(read_rows(folder.gallery))[-1]
    flags = {each["index"]: each["flag"] for each in gallery["flagged"]}
    assert flags
    assert all(flag == ("noisy and even" if index == 4 else "even") for index, flag in flags.items())


def test_a_banks_recall_is_measured(folder: RunFolder) -> None:
    recalls = [row["recall"] for row in read_rows(folder.bank) if "recall" in row]
    assert len(recalls) == 5  # before the first step the bank is empty
    assert all(each["neighbours"] == 5 and 0 < each["recall"] < 1 for each in recalls)


class NeedsNegatives(Loss):
    uses_negatives = True

    def forward(self, *pairs: Any) -> LossOutput:
        raise NotImplementedError


class StopsAtPositives(NeedsNegatives):
    uses_negatives, gradient_at_positive = False, False


@pytest.mark.parametrize(
    ("method", "loss"),
    [
        (BYOL, NeedsNegatives()),
        (SimSiam, NeedsNegatives()),
        (NNCLR, StopsAtPositives()),
        (BYOL, SupCon(labels=torch.arange(3) % 2)),
    ],
)
def test_a_loss_that_a_method_cannot_train_is_refused(method: Any, loss: Loss) -> None:
    with pytest.raises(InputError, match=f"^{method.__name__} cannot host {type(loss).__name__}: [^\n]*use --model"):
        method(ConvNet((4, 8), channels=1), loss=loss)
    assert LogitLoss.uses_negatives


def test_the_description_of_a_loss_names_any_temperature() -> None:
    assert "temperature 0.1" in ContrastiveLoss(InfoNCE(), 0.1).describe()
    assert "temperature Scheduled()" in ContrastiveLoss(InfoNCE(), Scheduled()).describe()


def test_a_temperature_by_pair_without_of_pairs_says_so() -> None:
    class Forgot(Temperature):
        by_pair = True

        def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
            return scores

    loss = ContrastiveLoss(InfoNCE(), Forgot())
    pairs = in_batch_pairs(rows(0, 3, 4), rows(1, 3, 4), torch.arange(3))
    with pytest.raises(NotImplementedError, match=r"Forgot\.by_pair is True: define of_pairs"):
        observe(loss, loss(pairs))
