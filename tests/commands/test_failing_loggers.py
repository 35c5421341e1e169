"""A logger that fails costs one line and a count, never the run or its folder."""

from __future__ import annotations

import builtins
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from contrast.callbacks import logger_calls as guarded_loggers
from contrast.callbacks.logger_calls import attempt, guard, missed_calls
from contrast.callbacks.wandb_run import with_id
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from contrast.runs.status import read_status
from tests.commands.running import SMALL, pretrain

ROOT = Path(__file__).parents[2]
OVERLAY = ["--config", "configs/logger/wandb.yaml"]
METHODS = ["log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint"]
PROPERTIES = ["name", "version", "save_dir", "root_dir", "log_dir", "experiment"]
ERRORS = ["ConnectionError", "OSError", "RuntimeError", "ValueError", "BrokenPipeError", "TimeoutError", "KeyError"]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")  # Lightning sets it for good
    monkeypatch.delenv("WANDB_MODE")


class Failing(Logger):
    """Raises in one of its methods and properties, or in all of them."""

    def __init__(self, at: str = "all", error: str = "ConnectionError") -> None:
        super().__init__()
        self.at, self.error = at, error
        self.logged: list[int] = []

    def _may_fail(self, name: str) -> None:
        if self.at in (name, "all"):
            raise getattr(builtins, self.error)(f"no\n{name}")

    @property
    def name(self) -> str:
        self._may_fail("name")
        return "failing"

    @property
    def version(self) -> int:
        self._may_fail("version")
        return 0

    @property
    def save_dir(self) -> None:
        self._may_fail("save_dir")

    @property
    def root_dir(self) -> None:
        self._may_fail("root_dir")

    @property
    def log_dir(self) -> None:
        self._may_fail("log_dir")

    @property
    def experiment(self) -> object:
        self._may_fail("experiment")
        return self

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self._may_fail("log_metrics")
        self.logged.append(step or 0)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._may_fail("log_hyperparams")

    def log_graph(self, *args: Any, **kwargs: Any) -> None:
        self._may_fail("log_graph")

    def save(self) -> None:
        self._may_fail("save")

    def finalize(self, status: str) -> None:
        self._may_fail("finalize")

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        self._may_fail("after_save_checkpoint")


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("at", [*METHODS, *PROPERTIES])
def test_every_call_is_guarded(at: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Family: methods and properties times exceptions."""
    logger = guard(Failing(at, error))
    assert isinstance(logger, Failing)
    assert guard(logger) is logger
    for _ in range(3):
        for name in METHODS:
            getattr(logger, name)(*([] if name == "save" else [{}]))
        for name in PROPERTIES:
            getattr(logger, name)
    assert missed_calls([logger]) == f"Failing missed 3 calls ({at} 3)"
    said = capsys.readouterr().err
    assert said.count("warning") == said.count("\n") == 1
    assert f"warning Failing failed at {at} ({error}:" in said


class Sending(Failing):
    """Opens its experiment to log, as TensorBoard's and W&B's loggers do."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        assert self.experiment is self, "a stand-in would take what is lost"
        super().log_metrics(metrics, step)


def test_a_failure_inside_another_call_is_one_of_the_outer_call(capsys: pytest.CaptureFixture[str]) -> None:
    logger = guard(Sending("experiment", "OSError"))
    for _ in range(3):
        logger.log_metrics({})
    assert missed_calls([logger]) == "Sending missed 3 calls (log_metrics 3)"
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "warning Sending failed at log_metrics (OSError: no experiment)" in said


@pytest.mark.parametrize(("at", "error"), [("all", error) for error in ERRORS[:4]] + [("experiment", "OSError")])
def test_a_run_outlives_its_logger(at: str, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    named = f"{{class_path: {__name__}.Failing, init_args: {{at: {at}, error: {error}}}}}"
    assert pretrain(folder.path, "--trainer.logger", named) == 0
    said = capsys.readouterr().err
    assert said.count("warning Failing failed at") == 1
    assert "Traceback" not in said
    status = read_status(folder.status)
    assert status is not None
    assert status.state == "finished"
    assert "Failing missed" in status.message
    assert [row["step"] for row in read_rows(folder.metrics) if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    assert folder.last_checkpoint.is_file()


def test_a_kind_of_call_is_tried_again_after_a_pause_that_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(guarded_loggers.time, "monotonic", lambda: now)
    logger, tried = Failing("nothing"), []
    guard(logger)

    def fails() -> None:
        tried.append(now)
        raise ConnectionError

    for _ in range(2000):
        attempt(logger, "sending", fails)
        logger.log_metrics({})  # another kind of call does not wait
        now += 1.0
    assert tried[:5] == [0, 1, 3, 7, 15]
    assert max(later - earlier for earlier, later in itertools.pairwise(tried)) == 600
    assert missed_calls([logger]) == "Failing missed 2,000 calls (sending 2,000)"
    assert len(logger.logged) == 2000


def test_a_call_that_works_again_is_made_again_after_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(guarded_loggers.time, "monotonic", lambda: now)
    logger = Failing("log_metrics")
    guard(logger)
    for step in range(10):
        logger.at = "log_metrics" if step < 3 else ""
        logger.log_metrics({}, step)
        now += 2.0
    assert logger.logged == [4, 5, 6, 7, 8, 9]  # the last pause was of 4 s, from step 2


@pytest.mark.parametrize("made", [TensorBoardLogger, CSVLogger])
def test_loggers_that_lightning_ships_stay_what_they_are(made: Any, tmp_path: Path) -> None:
    logger = guard(made(tmp_path, name="a", version="b"))
    assert isinstance(logger, made)
    assert type(logger).__name__ == made.__name__
    logger.log_metrics({"loss": 1.0}, step=1)
    logger.save()
    logger.finalize("success")
    assert logger.log_dir == str(tmp_path / "a/b")
    assert missed_calls([logger]) == ""
    assert [*(tmp_path / "a/b").iterdir()]


class KillCore(lightning.Callback):
    """Kills W&B's own process, as the out-of-memory killer does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            for process in Path("/proc").glob("[0-9]*"):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"wandb-core") and str(os.getpid()).encode() in words:
                    os.kill(int(process.name), signal.SIGKILL)
                    print("killed", file=sys.stderr)


def test_a_run_outlives_wandbs_own_process(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    kill = f"[{{class_path: {__name__}.KillCore, init_args: {{step: 2}}}}]"
    command = [sys.executable, "-m", "contrast", "pretrain", *SMALL, *OVERLAY, "--run", folder.path]
    done = subprocess.run([*command, "--trainer.callbacks", kill], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "killed" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("warning WandbLogger failed at") == 1
    assert [row["step"] for row in read_rows(folder.metrics) if "train/loss" in row] == [1, 2, 3, 4, 5, 6]
    status = read_status(folder.status)
    assert status is not None
    assert status.state == "finished"
    assert "WandbLogger missed" in status.message


OFFLINE = "--trainer.logger.init_args.offline"
WRONG = {
    "an id of a path": ({}, ["--trainer.logger.init_args.id", "a/b:c"], "W&B does not accept the id 'a/b:c'"),
    "an id that is blank": ({}, ["--trainer.logger.init_args.id", "' '"], "W&B does not accept the id ' '"),
    "no key": ({}, [OFFLINE, "false"], "no API key is configured: run `wandb login`"),
    "no key, mode": ({"WANDB_MODE": "online"}, [OFFLINE, "false"], "no API key is configured: run `wandb login`"),
    "silent": ({"WANDB_SILENT": ""}, [], "WANDB_SILENT='' in the environment is refused by W&B"),
    "quiet": ({"WANDB_QUIET": "perhaps"}, [], "WANDB_QUIET='perhaps' in the environment is refused by W&B"),
    "mode": ({"WANDB_MODE": "of"}, [], "WANDB_MODE=of in the environment is not a W&B mode"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_wandb_refuses_at_the_start_is_one_line(case: str, tmp_path: Path) -> None:
    variables, words, expected = WRONG[case]
    environment = {**os.environ, "HOME": str(tmp_path), **variables}
    command = [sys.executable, "-m", "contrast", "pretrain", *SMALL, *OVERLAY, *words, "--run", str(tmp_path / "run")]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert expected in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_disabled_wandb_is_left_out_whatever_the_overlay_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path, *OVERLAY, "--trainer.max_steps", 1) == 0
    assert "WANDB_MODE=disabled in the environment: W&B is turned off" in capsys.readouterr().err
    assert not folder.wandb.exists()
    assert not (folder.path / "wandb").exists()
    assert os.environ["WANDB_MODE"] == "disabled"


def test_an_offline_configuration_stays_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    logger = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"offline": True}}
    assert with_id(logger, RunFolder(tmp_path))["init_args"]["offline"]
    assert "--trainer.logger.init_args.offline false sends" in capsys.readouterr().err


def test_a_server_that_does_not_answer_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*arguments: Any, **named: Any) -> Any:
        raise ConnectionError("timed out after 90 s")

    monkeypatch.setattr("wandb.init", unreachable)
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path, *OVERLAY) == 0
    said = capsys.readouterr().err
    assert said.count("warning WandbLogger failed at experiment (ConnectionError: timed out after 90 s)") == 1
    assert isinstance(guard(WandbLogger(offline=True)), WandbLogger)
