"""Scalars: which rows there are, that they say what the step did, and the table made of them."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import lightning
import pytest
from lightning.pytorch.loggers.logger import DummyLogger

from contrast.callbacks import Metrics
from contrast.callbacks.metrics import record, write_table
from contrast.errors import InputError
from contrast.losses import DCL, ContrastiveLoss, LearnedTemperature
from contrast.records import append_row, read_rows
from contrast.run_folder import RunFolder
from tests.callbacks.fitting import BATCH, Steps, fit, simclr


class Logged(DummyLogger):
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, Any]]] = []

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.rows.append((step, metrics))


def read_table(folder: RunFolder) -> list[dict[str, str]]:
    with open(folder.metrics_table, newline="") as file:
        return list(csv.DictReader(file))


def test_rows_say_what_their_step_did(tmp_path: Path) -> None:
    folder, steps = RunFolder(tmp_path), Steps()
    fit(tmp_path, simclr(), [steps, Metrics(folder, every_n_steps=2)])
    rows = read_rows(folder.metrics)
    assert [(row["step"], row["epoch"]) for row in rows] == [(1, 0), (2, 0), (4, 1), (6, 1)]
    assert [row["train/loss"] for row in rows] == [steps.losses[row["step"] - 1] for row in rows]
    assert [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)


def test_the_last_step_has_a_row(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    fit(tmp_path, simclr(), [Metrics(folder, every_n_steps=4)])
    assert [row["step"] for row in read_rows(folder.metrics)] == [1, 4, 6]


def test_the_rate_is_the_one_that_the_step_used(tmp_path: Path) -> None:
    folder, steps = RunFolder(tmp_path), Steps()
    fit(tmp_path, simclr(), [steps, Metrics(folder, every_n_steps=1)])
    assert [row["train/rate"] for row in read_rows(folder.metrics)] == steps.rates
    assert steps.rates[0] != steps.rates[1]


def test_the_speed_counts_every_sample_since_the_last_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10_000, 4))  # each look at the clock finds it four seconds on
    monkeypatch.setattr("contrast.callbacks.metrics.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    folder = RunFolder(tmp_path)
    fit(tmp_path, simclr(), [Metrics(folder, every_n_steps=2)])
    rows = read_rows(folder.metrics)
    batches = [1, 1, 2, 2]
    assert [row["train/samples_per_second"] for row in rows] == [BATCH * count / 4 for count in batches]
    assert [row["seconds"] for row in rows] == [4, 8, 12, 16]


def test_accumulated_batches_are_one_step_of_all_their_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10_000, 4))
    monkeypatch.setattr("contrast.callbacks.metrics.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    folder = RunFolder(tmp_path)
    steps = Steps()
    fit(tmp_path, simclr(), [steps, Metrics(folder, every_n_steps=1)], accumulate_grad_batches=3)
    rows = read_rows(folder.metrics)
    means = [sum(steps.losses[first : first + 3]) / 3 for first in (0, 3)]
    assert [row["train/loss"] for row in rows] == pytest.approx(means)
    assert [row["step"] for row in rows] == [1, 2]
    assert [row["train/samples_per_second"] for row in rows] == [3 * BATCH / 4] * 2


def test_a_learned_temperature_has_a_column(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    method = simclr(ContrastiveLoss(DCL(), LearnedTemperature(0.2)))
    fit(tmp_path, method, [Metrics(folder, every_n_steps=1)])
    column = [row["train/temperature"] for row in read_rows(folder.metrics)]
    assert len(set(column)) == 6
    assert column[-1] == pytest.approx(method.loss.temperature.value.item())  # as the last step left it


def test_a_resumed_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    trainer = fit(tmp_path, simclr(), [Metrics(folder, 1)], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "kept.ckpt", weights_only=False)
    fit(tmp_path, simclr(), [Metrics(folder, 1)], resume=tmp_path / "kept.ckpt")
    rows = read_rows(folder.metrics)
    assert [(row["step"], row["epoch"]) for row in rows] == [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1)]
    assert all(0 < row["train/samples_per_second"] < 1e7 for row in rows)


def test_the_table_has_one_row_a_step_and_every_column(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for row in (
        {"step": 1, "epoch": 0, "train/loss": 2.5},
        {"step": 2, "epoch": 0, "train/loss": float("nan")},
        {"step": 2, "epoch": 0, "online/knn_top1": 0.75},
        {"step": 3, "epoch": 1, "train/loss": 1.0},
        {"step": 1, "epoch": 0, "train/loss": 2.25},
    ):
        append_row(folder.metrics, row)
    write_table(folder)
    assert read_table(folder) == [
        {"step": "1", "epoch": "0", "train/loss": "2.25", "online/knn_top1": ""},
        {"step": "2", "epoch": "0", "train/loss": "", "online/knn_top1": "0.75"},
        {"step": "3", "epoch": "1", "train/loss": "1.0", "online/knn_top1": ""},
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "metrics.jsonl"]


def test_the_table_is_there_when_the_run_ends_and_holds_the_same_numbers(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    fit(tmp_path, simclr(), [Metrics(folder, 1)])
    rows, table = read_rows(folder.metrics), read_table(folder)
    assert [{name: float(value) for name, value in row.items()} for row in table] == rows


def test_the_table_is_there_when_the_run_is_stopped(tmp_path: Path) -> None:
    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
            if trainer.global_step == 4:
                raise RuntimeError("stopped")

    folder = RunFolder(tmp_path)
    with pytest.raises(RuntimeError, match="stopped"):
        fit(tmp_path, simclr(), [Metrics(folder, 1), Stop()])
    assert [row["step"] for row in read_table(folder)] == ["1", "2", "3", "4"]


def test_every_logger_gets_the_same_numbers_at_the_same_step(tmp_path: Path) -> None:
    folder, loggers = RunFolder(tmp_path), [Logged(), Logged()]
    fit(tmp_path, simclr(), [Metrics(folder, 2)], logger=loggers, log_every_n_steps=1)
    rows = read_rows(folder.metrics)
    expected = [
        (row["step"], {name: value for name, value in row.items() if name not in ("step", "seconds")}) for row in rows
    ]
    assert expected
    for logger in loggers:
        assert logger.rows == expected


def test_one_process_of_many_writes(tmp_path: Path) -> None:
    logger, folder = Logged(), RunFolder(tmp_path)
    trainer = Mock(lightning.Trainer, is_global_zero=False, global_step=5, current_epoch=1, loggers=[logger])
    record(folder, trainer, {"online/knn_top1": 0.5})
    Metrics(folder).on_train_end(trainer, simclr())
    Metrics(folder).on_exception(trainer, simclr(), RuntimeError())
    assert not any(tmp_path.iterdir())
    assert logger.rows == []
    trainer.is_global_zero = True
    record(folder, trainer, {"online/knn_top1": 0.5})
    assert read_rows(folder.metrics) == [{"step": 5, "epoch": 1, "online/knn_top1": 0.5}]
    assert logger.rows == [(5, {"online/knn_top1": 0.5, "epoch": 1})]


@pytest.mark.parametrize("every", [0, -1])
def test_an_interval_below_one_is_refused(every: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"metrics.every_n_steps {every} is below 1"):
        Metrics(RunFolder(tmp_path), every)
