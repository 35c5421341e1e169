"""What a run records of its pairs, step by step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from contrast import Pairs
from contrast.callbacks import BankRecorder, DoctorLog, PairRecorder, Recorder
from contrast.commands.configuration import compose, shipped_configuration
from contrast.data import Digits, ImageData, SimCLRViews
from contrast.errors import InputError
from contrast.losses import (
    DCL,
    BadPairMining,
    ContrastiveLoss,
    HardNegativeMixing,
    InfoNCE,
    LearnedTemperature,
    Loss,
    LossOutput,
)
from contrast.methods import ContrastiveMethod, SimCLR
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.callbacks.fitting import Steps, digits, fit, moco, simclr
from tests.reference.observation import described, queries_of


class Distance(Loss):
    def forward(self, *pairs: Pairs) -> LossOutput:
        losses = torch.cat([(each.query - each.positive).norm(dim=-1) for each in pairs])
        return LossOutput(losses.mean(), losses.detach(), None, tuple(each.detached() for each in pairs))


def mixing() -> ContrastiveLoss:
    return ContrastiveLoss(InfoNCE(), 0.2, [HardNegativeMixing(hardest=4, pairs=3, queries=2, start_epoch=1)])


def check(row: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same in float32: a few scores may be rounded over an edge."""
    for name, part in expected.items():
        if isinstance(part, dict) and "counts" in part:
            moved = sum(abs(a - b) for a, b in zip(row[name]["counts"], part["counts"], strict=True))
            assert moved <= max(4, sum(part["counts"]) // 500), name
            assert row[name]["mean"] == pytest.approx(part["mean"], rel=1e-4, abs=1e-6)
    for name in ("score", "gradient"):
        assert row["hardness"][name] == pytest.approx(expected["hardness"][name], rel=1e-3, abs=1e-6)
    # A queue's random start is of no class.
    assert row.get("false_negatives", {}) == pytest.approx(expected.get("false_negatives", {}), rel=1e-3)
    assert set(row["gradient"]) == set(expected["gradient"])
    for name in ("pull", "push", "negatives"):
        assert row["gradient"][name] == pytest.approx(expected["gradient"][name], rel=1e-3)
    assert row["gradient"]["effective"]["mean"] == pytest.approx(expected["gradient"]["effective"], rel=1e-3)


@pytest.mark.parametrize(
    "make",
    [simclr, moco, lambda: moco(mixing()), lambda: simclr(Distance())],
    ids=["SimCLR", "MoCo", "mixing", "another loss"],
)
def test_rows_of_a_run(make: Callable[[], ContrastiveMethod], tmp_path: Path) -> None:
    """They are of the pairs that the loss saw: a queue's rows as they were before this step's keys replaced some."""
    folder, steps, method = RunFolder(tmp_path), Steps(), make()
    fit(tmp_path, method, [steps, Recorder(folder, every_n_steps=2, queries=None)])
    header, *recorded = read_rows(folder.scores)
    assert header["format"] == 2
    assert np.allclose(header["edges"], np.linspace(-1, 1, 101))
    assert [(row["step"], row["epoch"]) for row in recorded] == [(1, 0), (2, 0), (4, 1), (6, 1)]
    labels = digits().train_labels
    for row in recorded:
        assert row["features"]["width"] == 8
        assert row["embedding"]["width"] == 6
        if not isinstance(method.loss, ContrastiveLoss):
            assert "negative" not in row
            continue
        queries = [query for pairs in steps.pairs[row["step"] - 1] for query in queries_of(method.loss, pairs, labels)]
        expected = described(queries)
        assert row.get("placeholders") == expected.get("placeholders")
        if "negative" in expected:
            check(row, expected)
        else:
            assert not {"negative", "hardness", "gradient", "separation"} & row.keys()
    assert method.seen is None  # nothing is held on to between steps


def test_accumulated_batches_are_one_step_and_one_row(tmp_path: Path) -> None:
    folder, steps, method = RunFolder(tmp_path), Steps(), moco()
    fit(tmp_path, method, [steps, Recorder(folder, 1, queries=None)], accumulate_grad_batches=3)
    assert not method.backbone._forward_hooks
    recorded = read_rows(folder.scores)[1:]
    assert [row["step"] for row in recorded] == [1, 2]
    for row, first_batch in zip(recorded, (0, 3), strict=True):
        queries = [query for pairs in steps.pairs[first_batch] for query in queries_of(method.loss, pairs, None)]
        expected = described(queries)
        assert row["positive"]["mean"] == pytest.approx(expected["positive"]["mean"], rel=1e-5)
        assert ("negative" in row) == ("negative" in expected)
        if "negative" in row:
            assert row["negative"]["mean"] == pytest.approx(expected["negative"]["mean"], rel=1e-5)


def test_recording_changes_no_training(tmp_path: Path) -> None:
    weights = []
    for every in (0, 1):
        (tmp_path / str(every)).mkdir()
        method = moco(ContrastiveLoss(DCL(), LearnedTemperature(0.2)))
        fit(tmp_path / str(every), method, [Recorder(RunFolder(tmp_path / str(every)), every)])
        weights.append(method.state_dict())
    assert not (tmp_path / "0/scores.jsonl").exists()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_a_resumed_run_appends_to_the_same_file_without_a_second_header(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    trainer = fit(tmp_path, simclr(), [Recorder(folder, 1)], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "kept.ckpt", weights_only=False)
    fit(tmp_path, simclr(), [Recorder(folder, 1)], resume=tmp_path / "kept.ckpt")
    lines = [json.loads(line) for line in folder.scores.read_text().splitlines()]
    assert [line.get("step") for line in lines] == [None, 1, 2, 3, 4, 5, 6]


def test_a_negative_interval_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scores\.every_n_steps -1 is negative"):
        Recorder(RunFolder(tmp_path), -1)


def test_left_to_itself_it_makes_about_100_rows_of_a_run(tmp_path: Path) -> None:
    for epochs, every in ((2, 1), (80, 2)):
        recorder = Recorder(RunFolder(tmp_path / str(epochs)))
        (tmp_path / str(epochs)).mkdir()
        fit(tmp_path, simclr(), [recorder], max_epochs=epochs, limit_train_batches=3)
        assert recorder.every_n_steps == every
        assert len(read_rows(tmp_path / str(epochs) / "scores.jsonl")) == 2 + 3 * epochs // every - (every == 1)


def test_some_of_its_numbers_are_scalars_of_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    fit(tmp_path, simclr(), [Recorder(folder, 3)])
    rows = {row["step"]: row for row in read_rows(folder.metrics)}
    for row in read_rows(folder.scores)[1:]:
        scalars = rows[row["step"]]
        assert scalars["scores/auc"] == row["separation"]["auc"]
        assert scalars["gradient/effective"] == row["gradient"]["effective"]["mean"]
        assert scalars["features/rank_me"] == row["features"]["rank_me"]
        assert "gradient/synthetic" not in scalars


def test_the_demos_own_configuration_makes_at_least_100_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose([shipped_configuration("demo.yaml")], ()).config
    batches = len(Digits()) // config["data"]["init_args"]["batch_size"]
    steps = config["trainer"]["max_epochs"] * batches
    monkeypatch.setattr(SimCLR, "planned_steps", property(lambda self: steps))
    recorder = Recorder(RunFolder(tmp_path), **config.get("scores", {}))
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    recorder.on_train_start(trainer, simclr())
    rows = sum(recorder._observed(step) for step in range(1, steps + 1))
    assert steps == 1250
    assert 100 <= rows <= 110


WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_consecutive", "equal", "is_nonzero"}
"""What has to wait for a device: numbers that a program branches on, and shapes that follow from values."""


class Waits(TorchDispatchMode):
    """Counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in WAITS
        return func(*args, **(kwargs or {}))


class CountedSteps(lightning.Callback):
    """How many there are between the start of a step and the next one's."""

    def __init__(self, waits: Waits) -> None:
        self.waits = waits
        self.starts: list[int] = []

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.starts.append(self.waits.count)


def test_a_step_that_is_not_observed_waits_for_no_device(tmp_path: Path) -> None:
    """Pairs' histories are added up in every step; nothing of that, of scores or of banks is asked for before a row."""
    counts = []
    for recording in (False, True):
        folder, waits = RunFolder(tmp_path / str(recording)), Waits()
        folder.path.mkdir()
        recorders = [Recorder(folder, 4), PairRecorder(folder), BankRecorder(folder, 4), DoctorLog(folder)]
        counted, mining = CountedSteps(waits), BadPairMining(96, warmup_epochs=1)
        method = moco(ContrastiveLoss(InfoNCE(), LearnedTemperature(0.2), [], mining))
        data = ImageData(Digits(), SimCLRViews(size=8, blur=0.0), None, 16, workers=0, channels=1, limit=96)
        with waits:
            fit(folder.path, method, [counted, *(recorders if recording else [])], data, max_epochs=1)
        counts.append(np.diff(counted.starts).tolist())  # of steps 1 to 5
    without, with_them = counts
    assert [step for step in range(5) if with_them[step] > without[step]] == [0, 3]
    assert [with_them[step] for step in (1, 2, 4)] == [without[step] for step in (1, 2, 4)]
