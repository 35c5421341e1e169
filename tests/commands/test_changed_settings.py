"""One truth about a run: its configuration as of now, and a history of what changed at which step."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contrast.cli import main
from contrast.records import read_rows
from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint, write_checkpoint
from contrast.runs.history import changed_settings, read_history, settings_by_flag, write_history
from contrast.runs.status import read_status
from tests.commands.running import pretrain
from tests.commands.test_pretrain import equal
from tests.commands.test_stopping import NO_MORE, signalled

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The small run to its end, six steps; copied before it is changed."""
    folder = RunFolder(tmp_path_factory.mktemp("kept") / "run")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        assert pretrain(folder.path, "--trainer.max_steps", "5") == 0
    return folder


@pytest.fixture
def run(kept: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(kept.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def resume(folder: RunFolder, *words: object) -> int:
    return main(["pretrain", "--resume", str(folder.path), *map(str, words)])


def config_of(folder: RunFolder) -> dict[str, Any]:
    return dict(yaml.safe_load(folder.config.read_text()))


MORE = ["--trainer.max_steps", "-1", "--trainer.max_epochs", "3"]


def test_the_configuration_is_as_of_now_with_a_history_of_what_changed_at_which_step(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume(run, "--seed_everything", 1, "--model.loss.temperature", 0.5, *MORE) == 0
    said = capsys.readouterr().err
    for line in (
        "note    seed_everything 0 -> 1 from step 5",
        "note    model.loss.temperature 0.2 -> 0.5 from step 5",
        "note    trainer.max_epochs 2 -> 3 from step 5",
    ):
        assert line in said.splitlines()
    now = config_of(run)
    assert (now["seed_everything"], now["trainer"]["max_epochs"]) == (1, 3)
    assert now["model"]["init_args"]["loss"]["init_args"]["temperature"] == 0.5
    assert read_checkpoint(run.last_checkpoint)["contrast"]["config"] == now
    changed = {change.key: (change.step, change.epoch, change.old, change.new) for change in read_history(run.history)}
    assert changed == {
        "seed_everything": (5, 1, "0", "1"),
        "model.loss.temperature": (5, 1, "0.2", "0.5"),
        "trainer.max_epochs": (5, 1, "2", "3"),
        "trainer.max_steps": (5, 1, "5", "-1"),
    }
    assert [row["temperature"]["value"] for row in read_rows(run.scores)[1:]] == pytest.approx([0.2] * 5 + [0.5] * 4)


def test_report_dashboard_and_doctor_read_the_present_configuration_and_the_report_its_history(
    run: RunFolder,
) -> None:
    from contrast.dashboard.summary import summarise
    from contrast.doctor.evidence import Evidence

    assert resume(run, "--model.loss.temperature", 0.5, *MORE) == 0
    page = build_page(read_runs([run]))
    assert "0.2 to step 5, then 0.5" in page
    assert "Settings that changed during training" in page
    assert "<code>model.loss.temperature</code>" in page
    assert summarise(run).facts["Temperature"] == "0.5"
    assert summarise(run).reached.epochs == 3
    assert Evidence.read(run).setting("trainer", "max_epochs") == 3
    status = read_status(run.status)
    assert status is not None
    assert (status.state, status.step, status.steps) == ("finished", 9, 9)


def test_a_resume_without_changes_leaves_configuration_and_history_alone(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume(run, *MORE) == 0
    before = run.config.read_bytes(), run.history.read_bytes()
    capsys.readouterr()
    assert resume(run) == 0
    assert (run.config.read_bytes(), run.history.read_bytes()) == before
    assert "->" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "refused",
    [
        ["--model.loss.temperature", "-1"],
        ["--data.batch_size", "16"],
        ["--model.head", "{class_path: LinearHead, init_args: {output_width: 5}}"],
        ["--model.optimizer", "torch.optim.AdamW"],
        ["--trainer.max_epochs", "1"],
        ["--trainer.max_steps", "0"],
        ["--trainer.devices", "many"],
    ],
    ids=" ".join,
)
def test_a_refused_resume_changes_nothing(refused: list[str], run: RunFolder, capsys: Any) -> None:
    """Whether it is refused at once, when everything is built, or when the checkpoint is restored."""
    before = contents(run.path)
    assert resume(run, "--seed_everything", 3, *MORE, *refused) == 2
    assert contents(run.path) == before
    assert len([line for line in capsys.readouterr().err.splitlines() if ": error: " in line]) == 1
    assert resume(run, *MORE) == 0
    assert config_of(run)["seed_everything"] == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ctrl_c_and_a_kill_inside_an_extension_go_on_to_the_extended_end(run: RunFolder) -> None:
    assert resume(run, *MORE, *signalled(7, signal.SIGINT)) == 130
    assert resume(run, *NO_MORE) == 0
    assert read_checkpoint(run.last_checkpoint)["global_step"] == 9
    code = (
        "import os, signal, sys\n"
        "from contrast.callbacks import Progress\n"
        "def die(self, trainer, *rest):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "Progress.on_train_batch_end = die\n"  # before any checkpoint of the extension
        "from contrast.cli import main\n"
        "main(['pretrain', '--resume', *sys.argv[1:]])\n"
    )
    words = [sys.executable, "-c", code, str(run.path), "--trainer.max_epochs", "4"]
    done = subprocess.run(words, capture_output=True, cwd=ROOT, check=False, timeout=200)
    assert done.returncode == -signal.SIGKILL
    assert read_checkpoint(run.last_checkpoint)["global_step"] == 9
    assert resume(run) == 0
    assert read_checkpoint(run.last_checkpoint)["global_step"] == 12
    ends = [(change.step, change.new) for change in read_history(run.history) if change.key == "trainer.max_epochs"]
    assert ends == [(5, "3"), (9, "4")]


def test_a_changed_rate_and_schedule_apply_from_the_first_step_on(run: RunFolder) -> None:
    """Torch restores the optimiser's settings with its state."""
    rate = config_of(run)["model"]["init_args"]["optimizer"]["init_args"]["lr"]
    words = ["--model.optimizer.lr", rate * 2, "--model.optimizer.weight_decay", 0.125, *MORE]
    assert resume(run, *words, "--model.schedule", "Constant") == 0
    rates = {row["step"]: row["train/rate"] for row in read_rows(run.metrics) if "train/rate" in row}
    scaled = read_checkpoint(run.last_checkpoint)["optimizer_states"][0]["param_groups"]
    assert [rates[step] for step in (6, 7, 8, 9)] == pytest.approx([scaled[0]["initial_lr"]] * 4)
    assert [group["weight_decay"] for group in scaled] == [0.125, 0.0]
    whole = RunFolder(run.path.with_name("whole"))
    assert pretrain(whole.path, *words, "--model.schedule", "Constant") == 0
    of_whole = read_checkpoint(whole.last_checkpoint)["optimizer_states"][0]["param_groups"]
    assert scaled[0]["initial_lr"] == of_whole[0]["initial_lr"] > 0


@pytest.mark.parametrize("old", [False, True])
def test_another_optimizer_is_refused_with_its_cause(
    old: bool, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also on a checkpoint of before, which names no class."""
    if old:
        as_before(run)
    assert resume(run, *MORE, "--model.optimizer", "{class_path: torch.optim.AdamW, init_args: {lr: 0.001}}") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "model.optimizer AdamW: the checkpoint at step 5 holds the state of" in line
    assert "KeyError" not in line
    assert line.endswith(f"contrast pretrain --config {run.config} --run {run.path}-2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "MoCo"], "model MoCo: the checkpoint at step 5 holds the state of SimCLR"),
        (["--model", "contrast.methods.BYOL"], "model BYOL: the checkpoint at step 5 holds the state of SimCLR"),
        (["--model.optimizer", "torch.optim.AdamW"], "model.optimizer AdamW: the checkpoint at step 5 holds the state"),
    ],
)
def test_another_method_is_refused_before_any_note(
    words: list[str], said: str, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resume(run, *MORE, *words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]
    assert len(lines) == 1


def as_before(run: RunFolder) -> None:
    """What checkpoints of earlier versions lack."""
    for path in run.checkpoints.iterdir():
        content = read_checkpoint(path)
        del content["contrast"]["batch"], content["contrast"]["optimizers"]
        write_checkpoint(content, path)


def test_an_old_run_that_was_extended_goes_on_by_its_checkpoint(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Earlier versions left config.yaml as it was, whatever a resume changed: "finished, step 8 of 6"."""
    first = run.config.read_text()
    assert resume(run, *MORE, *signalled(8, signal.SIGINT)) == 130
    run.config.write_text(first)
    run.history.unlink()
    as_before(run)
    capsys.readouterr()
    assert resume(run, *NO_MORE) == 0
    said = capsys.readouterr().err
    assert "is older than the last resume; the checkpoint's settings apply: " in said
    assert "trainer.max_epochs 3" in said
    assert read_checkpoint(run.last_checkpoint)["global_step"] == 9
    assert config_of(run)["trainer"]["max_epochs"] == 3


def test_an_old_run_without_a_history_goes_on_without_a_note(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    as_before(run)
    config = yaml.safe_load(run.config.read_text())
    del config["checkpoints"], config["pairs"], config["trainer"]["max_time"]  # what a version of before did not have
    run.config.write_text(yaml.safe_dump(config))
    content = read_checkpoint(run.last_checkpoint)
    content["contrast"]["config"] = config
    write_checkpoint(content, run.last_checkpoint)
    assert resume(run, *MORE) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]
    changed = [line.split()[1] for line in notes if "and this run has" not in line]
    assert changed == ["trainer.max_epochs", "trainer.max_steps"]


def test_a_fall_back_to_the_checkpoint_before_replaces_what_came_later(run: RunFolder) -> None:
    assert resume(run, *MORE, "--model.loss.temperature", 0.5) == 0
    damaged = bytearray(run.last_checkpoint.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    run.last_checkpoint.write_bytes(damaged)
    assert read_checkpoint(run.previous_checkpoint)["global_step"] == 6
    assert resume(run, "--model.loss.temperature", 0.7) == 0
    found = [
        (change.step, change.new) for change in read_history(run.history) if change.key == "model.loss.temperature"
    ]
    assert found == [(5, "0.5"), (6, "0.7")]


@pytest.mark.parametrize(
    ("resumes", "expected"),
    [
        # (step, setting in the checkpoint, setting now)
        ([(40, 1, 2)], [(40, "1", "2")]),
        ([(40, 1, 2), (40, 1, 2)], [(40, "1", "2")]),  # killed before its first checkpoint, resumed again
        ([(40, 1, 2), (40, 1, 3)], [(40, "1", "3")]),
        ([(40, 1, 2), (40, 1, 1)], []),
        ([(40, 1, 2), (40, 2, 2)], [(40, "1", "2")]),  # the checkpoint of step 40 was written again
        ([(40, 1, 2), (40, 2, 3)], [(40, "1", "3")]),
        ([(40, 1, 2), (40, 2, 1)], []),
        ([(40, 1, 2), (60, 2, 3), (50, 2, 2)], [(40, "1", "2")]),  # fell back to before the second change
        ([(40, 1, 2), (60, 2, 3), (50, 2, 5)], [(40, "1", "2"), (50, "2", "5")]),
        ([(40, 1, 2), (60, 2, 3), (80, 3, 3)], [(40, "1", "2"), (60, "2", "3")]),
    ],
)
def test_the_history_is_that_of_the_steps_that_count(
    resumes: list[tuple[int, int, int]], expected: list[tuple[int, str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "history.jsonl"
    for step, before, after in resumes:
        configs: list[dict[str, Any]] = [{"a": {"b": value}} for value in (before, after)]
        write_history(path, step, 0, changed_settings(*configs, configs[1]), configs[1])
    assert [(change.step, change.old, change.new) for change in read_history(path)] == expected


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[1]\n", b'{"step": "x", "changed": {}}\n', b'{"step": 1}\n', b'{"step": -1, "changed": {}}\n',
        b'{"step": 1, "changed": []}\n', b'{"step": 1, "changed": {"a": 3}}\n', b"\xff\n", b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_history_that_cannot_be_read_is_empty(content: bytes, run: RunFolder) -> None:
    run.history.write_bytes(content)
    assert read_history(run.history) == []
    build_page(read_runs([run]))


def test_what_counts_as_a_change() -> None:
    before = {
        "seed_everything": 0,
        "model": {"class_path": "contrast.methods.SimCLR", "init_args": {"loss": None, "gone": 1}},
        "trainer": {"callbacks": [], "max_epochs": 2},
    }
    after = {
        "seed_everything": 0,
        "model": {"class_path": "contrast.methods.simclr.SimCLR", "init_args": {"loss": 3, "default": 4, "given": 5}},
        "trainer": {"callbacks": [{"class_path": "mine.Own"}], "max_epochs": 2},
    }
    assert settings_by_flag(before)["model.gone"] == 1
    given = {"model": {"class_path": "SimCLR", "init_args": {"given": 5}}}
    assert changed_settings(before, after, given) == {
        "model.loss": {"old": None, "new": 3},
        "model.gone": {"old": 1},
        "trainer.callbacks": {"old": [], "new": [{"class_path": "mine.Own"}]},
        "model.given": {"new": 5},
    }


def test_a_run_that_max_steps_ended_within_an_epoch_goes_on_with_its_next_batch(tmp_path: Path) -> None:
    """Lightning counts the epoch as done: the rest of its samples were never seen, and steps were "8 of 9"."""
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    constant = ["--model.schedule", "Constant", "--checkpoints.keep_every_n_epochs", "2"]
    assert pretrain(whole.path, *constant, "--trainer.max_epochs", 3) == 0
    assert pretrain(cut.path, *constant, "--trainer.max_steps", 5) == 0
    assert not (cut.checkpoints / "epoch-0002.ckpt").exists()
    assert read_checkpoint(cut.last_checkpoint)["contrast"]["epochs"] == 1
    assert resume(cut, *MORE) == 0
    assert equal(whole, cut)
