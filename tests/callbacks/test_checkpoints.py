"""Checkpoint files: whole or not there, written when they should be, and holding what a run needs to go on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from contrast.callbacks import AtomicCheckpoints, Checkpoints
from contrast.errors import InputError, RunStopped
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import FORMAT
from tests.callbacks.fitting import fit, moco, simclr


class Saves(AtomicCheckpoints):
    """Notes what is written, and at which step."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder)
        self.made: list[tuple[str, int]] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        super().save_checkpoint(checkpoint, path, storage_options)
        self.made.append((Path(path).name, checkpoint["global_step"]))


def saves(folder: RunFolder, epochs: int, **settings: int) -> list[tuple[str, int]]:
    saved = Saves(folder)
    fit(folder.path, simclr(), [Checkpoints(folder, {}, **settings)], plugins=[saved], max_epochs=epochs)
    assert not [path for path in folder.checkpoints.iterdir() if path.suffix != ".ckpt"]
    return saved.made


def test_last_is_written_after_every_epoch_and_at_the_end(tmp_path: Path) -> None:
    made = saves(RunFolder(tmp_path), 2)
    assert made == [("last.ckpt", 3), ("last.ckpt", 6)]


def test_every_few_epochs_still_means_at_the_end(tmp_path: Path) -> None:
    assert saves(RunFolder(tmp_path), 3, every_n_epochs=2) == [("last.ckpt", 6), ("last.ckpt", 9)]


def test_steps_within_an_epoch(tmp_path: Path) -> None:
    made = saves(RunFolder(tmp_path), 2, every_n_epochs=5, every_n_steps=2)
    assert made == [("last.ckpt", 2), ("last.ckpt", 4), ("last.ckpt", 6)]


def test_what_is_kept_for_good(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    made = saves(folder, 5, keep_every_n_epochs=2)
    assert [each for each in made if each[0] != "last.ckpt"] == [("epoch-0002.ckpt", 6), ("epoch-0004.ckpt", 12)]
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [
        "epoch-0002.ckpt",
        "epoch-0004.ckpt",
        "last.ckpt",
        "previous.ckpt",
    ]
    kept = torch.load(folder.checkpoints / "epoch-0002.ckpt", weights_only=True)
    assert kept["state_dict"].keys() == simclr().state_dict().keys()


def test_it_holds_configuration_optimiser_and_queue_and_needs_no_code_to_be_read(tmp_path: Path) -> None:
    config = {"seed_everything": 3, "model": {"class_path": "MoCo"}}
    folder, method = RunFolder(tmp_path), moco()
    fit(tmp_path, method, [Checkpoints(folder, config)])
    kept = torch.load(folder.last_checkpoint, weights_only=True)
    data = kept["contrast"].pop("data")
    assert (data["samples"], data["contents_of"]) == (96, "all bytes of the array")
    ours = {name: kept["contrast"][name] for name in ("format", "epochs", "config", "batch", "optimizers")}
    batch = {"processes": 1, "batch_size": 32, "accumulate_grad_batches": 1, "global_batch": 32}
    assert ours == {"format": FORMAT, "epochs": 2, "config": config, "batch": batch, "optimizers": ["SGD"]}
    assert FORMAT == 2
    assert kept["optimizer_states"][0]["state"]
    assert kept["lr_schedulers"]
    # Both queues of v2+: this epoch's keys are in, the last step's too.
    for queue in range(2):
        assert kept["state_dict"][f"queues.{queue}.filled"] == 80
        assert kept["state_dict"][f"queues.{queue}.pointer"] == 6 * 32 % 80
        assert (kept["state_dict"][f"queues.{queue}.index"] >= 0).all()


@pytest.mark.parametrize("when", ["saving", "flushing", "renaming"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, path = AtomicCheckpoints(RunFolder(tmp_path)), tmp_path / "checkpoints/other.ckpt"
    writer.save_checkpoint({"step": torch.tensor(1)}, path)
    old = path.read_bytes()

    def half_way(content: Any, file: Any, *arguments: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    def fail(*arguments: Any) -> None:
        raise OSError(5, "Input/output error")

    place, name, failure = {
        "saving": (torch, "save", half_way),
        "flushing": (os, "fsync", fail),
        "renaming": (os, "replace", fail),
    }[when]
    with monkeypatch.context() as patched:
        patched.setattr(place, name, failure)
        with pytest.raises(OSError, match=r"No space|Input/output"):
            writer.save_checkpoint({"step": torch.tensor(2)}, path)
    assert path.read_bytes() == old
    assert [*path.parent.iterdir()] == [path]
    writer.save_checkpoint({"step": torch.tensor(3)}, path)
    assert torch.load(path, weights_only=True) == {"step": torch.tensor(3)}


def test_the_file_is_flushed_to_disk_before_it_takes_the_old_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda old, new: (order.append(Path(new).name), replace(old, new)))
    AtomicCheckpoints(RunFolder(tmp_path)).save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert order == ["fsync", "last.ckpt", "fsync"]  # the file, and then its folder


class Interrupt(lightning.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step - 1:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_lets_the_step_finish_and_saves_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RunStopped, match=f"interrupted at step 2.*--resume {tmp_path}") as stopped:
        fit(tmp_path, simclr(), [Interrupt(2), Checkpoints(folder, {})])
    assert stopped.value.exit_code == 130
    assert torch.load(folder.last_checkpoint, weights_only=True)["global_step"] == 2
    assert signal.getsignal(signal.SIGINT) == before


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tmp_path, simclr(), [Interrupt(2), Interrupt(2), Checkpoints(folder, {})])
    assert not folder.last_checkpoint.exists()
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("stopped", [False, True])
def test_ctrl_c_means_what_it_meant_once_the_run_is_over(stopped: bool, tmp_path: Path) -> None:
    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
            if stopped:
                raise RunStopped("stopped")

    before = signal.getsignal(signal.SIGINT)
    try:
        fit(tmp_path, simclr(), [Stop(), Checkpoints(RunFolder(tmp_path), {})], max_epochs=1)
    except RunStopped:
        assert stopped
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize(
    "arguments", [{"every_n_epochs": 0}, {"every_n_steps": -1}, {"keep_every_n_epochs": -1}], ids=str
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, int], tmp_path: Path) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises(InputError, match=f"{name} {value}"):
        Checkpoints(RunFolder(tmp_path), {}, **arguments)
