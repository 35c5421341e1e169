"""Settings that train nothing are refused in one line, and a run that trained nothing is never finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest

from contrast.cli import main
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from contrast.runs.status import read_status
from tests.commands.running import pretrain

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


NOTHING = {
    "trainer.max_steps": ["0"],
    "trainer.max_epochs": ["0"],
    "trainer.limit_train_batches": ["0", "0.0", "0.001", "-1"],
    "trainer.max_time": ["00:00:00:00", "{seconds: 0}", "{hours: -1}", "soon"],
    "trainer.fast_dev_run": ["true", "1", "3"],
    "model.optimizer.lr": ["0", "0.0"],
    "model.optimizer": [
        f"{{class_path: {name}, init_args: {{lr: 0}}}}"
        for name in ("torch.optim.AdamW", "torch.optim.RMSprop", "contrast.optim.LARS")
    ],
    "model.rates": [
        "{weights: {factor: 0}, norms_and_biases: {factor: 0}}",
        "{backbone: {factor: 0}, head: {factor: 0}}",
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NOTHING.items() for value in values])
def test_nothing_trained_is_refused(name: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain(tmp_path / "run", f"--{name}", value) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert name.rpartition(".")[2] in line.replace("(lr)", "lr")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trainer.gradient_clip_val", "-1"], "trainer.gradient_clip_val -1 clips nothing"),
        (["--trainer.gradient_clip_val", ".nan"], "trainer.gradient_clip_val nan clips nothing"),
        (["--trainer.min_epochs", "5"], "trainer.min_epochs 5 is more than trainer.max_epochs 2"),
        (["--trainer.min_steps", "9", "--trainer.max_steps", "3"], "min_steps 9 is more than trainer.max_steps 3"),
    ],
)
def test_a_setting_without_an_effect_is_refused(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain(tmp_path / "run", *words) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_the_last_line_has_the_loss_of_the_last_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Six steps, of which the interval of metrics.jsonl has none but the first."""
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path, "--metrics.every_n_steps", 100) == 0
    rows = [row for row in read_rows(folder.metrics) if "train/loss" in row]
    assert [row["step"] for row in rows] == [1, 6]
    assert f"done    6 steps, loss {rows[-1]['train/loss']:.3f}" in capsys.readouterr().err
    assert rows[0]["train/loss"] != rows[-1]["train/loss"]


def test_no_end_of_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain(tmp_path / "run", "--trainer.max_epochs", -1) == 2
    assert "set trainer.max_epochs or trainer.max_steps above 0" in capsys.readouterr().err
    assert pretrain(tmp_path / "run", "--trainer.max_epochs", -2) == 2
    assert pretrain(tmp_path / "run", "--trainer.max_steps", -2) == 2


class StopAtOnce(lightning.Callback):
    """Somebody else's callback that ends the run before its first step."""

    def on_train_batch_start(self, *arguments: Any) -> None:
        raise StopIteration  # with which Lightning leaves the rest of the epoch out


def test_a_run_that_trained_nothing_is_never_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path, "--trainer.callbacks", f"[{{class_path: {__name__}.StopAtOnce}}]") == 1
    assert "no step was trained" in capsys.readouterr().err.splitlines()[-1]
    status = read_status(folder.status)
    assert status is not None
    assert (status.state, status.step) == ("failed", 0)
    assert "no step was trained" in status.message


def test_a_time_limit_saves_and_stops_like_a_signal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning would count the epoch as done, and call the run finished; the rest of its samples were never seen."""
    from contrast.commands import run

    monkeypatch.setattr(run, "time_limit", lambda given: 1e-9)
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path, "--trainer.max_time", "00:00:00:01") == 152
    line = capsys.readouterr().err.splitlines()[-1]
    assert "stopped by trainer.max_time at step 1, all of it saved; go on with: contrast pretrain --resume" in line
    status = read_status(folder.status)
    assert status is not None
    assert (status.state, status.step, status.steps) == ("stopped", 1, 6)
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    assert main(["pretrain", "--resume", str(folder.path), "--trainer.max_time", "01:00:00:00"]) == 0
    assert read_checkpoint(folder.last_checkpoint)["global_step"] == 6
