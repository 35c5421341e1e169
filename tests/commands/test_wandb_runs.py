"""One run folder is one run at W&B: killed, stopped, resumed, by several processes, and where something fails."""

from __future__ import annotations

import itertools
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import lightning
import pytest
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from wandb.proto import wandb_internal_pb2 as proto

from contrast.callbacks import wandb_run
from contrast.callbacks.logger_calls import prepare, sent
from contrast.callbacks.metrics import record
from contrast.callbacks.wandb_run import closed_at_the_end, with_id
from contrast.cli import main
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.commands.running import SMALL, pretrain
from tests.commands.wandb_log import history, of_type, until_ended

ROOT = Path(__file__).parents[2]
OVERLAY = ["--config", "configs/logger/wandb.yaml"]
LOGGER = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"project": "contrast"}}
ENDS = """
import os, signal
import lightning

class EndsAt(lightning.Callback):
    def __init__(self, step: int, by: str) -> None:
        self.step, self.by = step, signal.Signals[by]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.by)
"""


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WANDB_MODE", "offline")  # Lightning sets it for good


def files(folder: RunFolder, killed: int = 0) -> list[Path]:
    """W&B's files in the order of their starts, whole but for the first ones, whose processes were killed."""
    found = [*folder.path.glob("wandb/offline-run-*/run-*.wandb")]
    found.sort(key=lambda file: of_type(file, "run")[0].run.start_time.ToMicroseconds())
    for file in found[killed:]:
        until_ended(file)
    return found


def test_a_killed_run_a_stopped_and_a_resumed_one_are_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run")
    (tmp_path / "ends.py").write_text(ENDS)
    monkeypatch.syspath_prepend(tmp_path)

    def ends(step: int, by: str) -> list[str]:
        return ["--trainer.callbacks", f"[{{class_path: ends.EndsAt, init_args: {{step: {step}, by: {by}}}}}]"]

    command = [sys.executable, "-m", "contrast", "pretrain", *SMALL, *OVERLAY, *ends(5, "SIGKILL")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    killed = subprocess.run([*command, "--run", folder.path], env=environment, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    with mock.patch("contrast.callbacks.loggers.go_on", side_effect=wandb_run.go_on) as started:
        assert main(["pretrain", "--resume", str(folder.path), *ends(4, "SIGINT")]) == 130
        assert main(["pretrain", "--resume", str(folder.path), "--trainer.callbacks", "null"]) == 0
    assert [call.args[0].settings.resume for call in started.call_args_list] == ["allow", "allow"]

    first, second, third = files(folder, killed=1)
    kept = json.loads(folder.wandb.read_text())
    runs = [record.run for file in (first, second, third) for record in of_type(file, "run")]
    assert kept == {"id": runs[0].run_id, "starts": 3}
    assert {(run.run_id, run.display_name, run.project) for run in runs} == {(kept["id"], "run", "contrast")}
    # W&B takes nothing back: step 4, which was trained twice, stands once. Its own numbers go on behind those before.
    trained, numbered = [], []
    for file in (first, second, third):
        rows = history(file)
        trained.append([row["trainer/global_step"] for row in rows if "train/loss" in row])
        numbered.append([row["_step"] for row in rows])
    # Its last step may not have reached W&B when it was killed.
    assert trained in ([[1, 2, 3, 4], [], [5, 6]], [[1, 2, 3], [4], [5, 6]])
    for name in ("scores/positive", "scores/auc", "gradient/effective"):
        steps = [row["trainer/global_step"] for file in (first, second, third) for row in history(file) if name in row]
        # W&B's process writes its file block by block, so the killed start may lack rows of the last step that it has.
        assert [step for step in steps if step != trained[0][-1]] == [
            step for step in range(1, 7) if step != trained[0][-1]
        ], name
        assert steps == sorted(set(steps)), name
    together = [*itertools.chain(*numbered)]
    assert together == sorted(set(together))
    reports = [[each.artifact.type for each in of_type(file, "artifact")].count("report") for file in (second, third)]
    assert reports == [1, 1]
    assert [of_type(file, "exit")[0].exit.exit_code for file in (second, third)] == [1, 0]


def as_of_a_killed_start(path: Path, rows: list[dict[str, Any]], torn: int) -> None:
    """Write W&B's own file: a header, and each row as records that are cut at blocks of 32 KiB; the end is torn."""
    data = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    for row in rows:
        items = [proto.HistoryItem(nested_key=[name], value_json=json.dumps(value)) for name, value in row.items()]
        content, first = proto.Record(history=proto.HistoryRecord(item=items)).SerializeToString(), True
        while content:
            left = 32_768 - len(data) % 32_768
            if left < 7:
                data, left = data + bytes(left), 32_768
            part, content = content[: left - 7], content[left - 7 :]
            kind = (1 if first else 4) if not content else (2 if first else 3)
            data, first = data + struct.pack("<IHB", 0, len(part), kind) + part, False
    path.parent.mkdir(parents=True)
    path.write_bytes(data[:-torn])


def test_what_an_earlier_start_logged_of_later_steps_is_not_logged_again(tmp_path: Path) -> None:
    """Without a race: a process that is killed may or may not have written its last step."""
    step = "trainer/global_step"
    rows: list[dict[str, Any]] = [{step: of, "train/loss": 1.0, "epoch": 0} for of in (3, 4, 5)]
    rows += [{step: 5, "scores/positive": "x" * 70_000}, {step: 6, "train/loss": 1.0}]
    as_of_a_killed_start(tmp_path / "wandb/offline-run-1-own/run-own.wandb", rows, torn=3)
    logger = WandbLogger(save_dir=tmp_path, version="own", offline=True)
    prepare(logger, 3)
    assert [sent(logger, of) for of in (3, 4, 5, 6)] == [
        set(), {"train/loss", "epoch"}, {"train/loss", "epoch", "scores/positive"}, set(),
    ]  # fmt: skip
    here = {"loggers": [logger], "callback_metrics": {}, "global_step": 4, "current_epoch": 1, "is_global_zero": True}
    trainer = mock.Mock(spec=lightning.Trainer, **here)
    with mock.patch.object(WandbLogger, "log_metrics") as logged:
        record(RunFolder(tmp_path), trainer, {"train/loss": 2.0, "train/rate": 0.5})
        record(RunFolder(tmp_path), trainer, {"train/loss": 2.0})
    logged.assert_called_once_with({"train/rate": 0.5, "epoch": 1}, step=4)
    assert read_rows(RunFolder(tmp_path).metrics)[1]["train/loss"] == 2.0  # the run folder has all


def test_of_several_processes_one_logs(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    spread = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    command = [sys.executable, "-m", "contrast", "pretrain", *SMALL, *OVERLAY, *spread, "--data.batch_size", "16"]
    done = subprocess.run([*command, "--run", folder.path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = files(folder)
    assert [row["trainer/global_step"] for row in history(file) if "train/loss" in row] == [*range(1, 7)]
    assert json.loads(folder.wandb.read_text())["starts"] == 1


def test_what_cannot_be_drawn_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("no ink\nleft")

    monkeypatch.setattr("contrast.callbacks.loggers.figures", broken)
    monkeypatch.setattr("contrast.report.build_page", broken)
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path, *OVERLAY, "--trainer.max_epochs", 1) == 0
    said = capsys.readouterr().err
    assert said.count("warning WandbLogger failed at pictures (RuntimeError: no ink left)") == 1
    assert "warning WandbLogger missed 2 calls (pictures 1, report 1): the run folder is complete" in said
    assert "Traceback" not in said
    (file,) = files(folder)
    assert len([row for row in history(file) if "epoch" in row]) == len(read_rows(folder.metrics))
    assert not of_type(file, "artifact")


def test_the_id_is_kept_and_a_given_one_wins(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    first, again = with_id(LOGGER, folder), with_id([LOGGER], folder)[0]
    assert first == again
    own = {"id": first["init_args"]["id"], "name": tmp_path.name}
    assert first["init_args"] == {"project": "contrast", **own}
    spelled_out = {**LOGGER, "init_args": {"id": None, "name": None, "resume": None}}
    assert with_id(spelled_out, folder)["init_args"] == {**own, "resume": "allow"}
    assert json.loads(folder.wandb.read_text())["starts"] == 3
    given = {**LOGGER, "init_args": {"version": "mine", "name": "also mine", "resume": "must"}}
    assert with_id(given, folder)["init_args"] == {**given["init_args"], "id": "mine"}
    forked = {**LOGGER, "init_args": {"fork_from": "other?_step=3", "resume": None}}
    assert with_id(forked, folder)["init_args"]["resume"] is None
    assert with_id(LOGGER, folder)["init_args"]["id"] == "mine"
    folder.wandb.write_text("damaged")
    assert with_id(LOGGER, folder)["init_args"]["id"] not in ("mine", first["init_args"]["id"])


def test_other_loggers_and_processes_get_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for logger in (None, False, {"class_path": "lightning.pytorch.loggers.CSVLogger"}):
        assert with_id(logger, RunFolder(tmp_path)) == logger
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert with_id(LOGGER, RunFolder(tmp_path)) == LOGGER
    assert not [*tmp_path.iterdir()]


def test_somebody_elses_run_of_wandb_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    run = SimpleNamespace(finish=lambda exit_code: closed.append(exit_code))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=run))
    monkeypatch.delenv(wandb_run._STAGING, raising=False)
    with closed_at_the_end(RunFolder(tmp_path)):
        assert os.environ[wandb_run._STAGING] == str(tmp_path / "wandb")
    assert wandb_run._STAGING not in os.environ
    assert closed == []
    monkeypatch.setenv(wandb_run._STAGING, "elsewhere")
    sys.modules["wandb"].run = None  # type: ignore[attr-defined]  # a stand-in module
    with closed_at_the_end(RunFolder(tmp_path)):
        sys.modules["wandb"].run = run  # type: ignore[attr-defined]  # a stand-in module
        assert os.environ[wandb_run._STAGING] == "elsewhere"
    assert closed == [0]
