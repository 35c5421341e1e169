"""Every command that a message prints works exactly as printed: all are collected, and run with a shell's words."""

from __future__ import annotations

import ast
import dataclasses
import errno
import html
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import lightning
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast.callbacks import metrics
from contrast.cli import COMMANDS, main
from contrast.commands.pretrain import read_request
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint, write_checkpoint
from contrast.runs.next_command import shell_command
from contrast.runs.status import read_status, write_status
from tests.commands.observers import Faulty
from tests.commands.running import SMALL, as_killed_before_its_first_checkpoint

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "contrast"
FOLDER = RunFolder(Path("my runs/it's  a run"))
"""As it is typed, below the folder where the command is given: words that a shell would split, and two spaces."""


class Once(lightning.Callback):
    """Ctrl-C in a step, the first time that this process comes to it."""

    sent: ClassVar[set[str]] = set()

    def __init__(self, step: int, times: int, name: str) -> None:
        self.step, self.times, self.name = step, times, name

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step + 1 == self.step and self.name not in self.sent:
            self.sent.add(self.name)
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run to its end."""
    path = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        assert main(["pretrain", *SMALL, "--run", str(path)]) == 0
    return path


@pytest.fixture
def place(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    FOLDER.path.parent.mkdir()
    return Place(finished, monkeypatch)


class Place:
    """Where a command is typed: a folder of its own."""

    def __init__(self, finished: Path, patch: pytest.MonkeyPatch) -> None:
        self._finished, self.patch = finished, patch

    def start(self, *words: object) -> int:
        files = [word if word.startswith("--") else str(ROOT / word) for word in SMALL]
        return main(["pretrain", *files, "--run", str(FOLDER.path), *map(str, words)])

    def resume(self, *words: object) -> int:
        return main(["pretrain", "--resume", str(FOLDER.path), *map(str, words)])

    def finished(self) -> None:
        """A finished run is in the folder."""
        shutil.copytree(self._finished, FOLDER.path)

    def killed_before_its_first_checkpoint(self) -> None:
        self.finished()
        as_killed_before_its_first_checkpoint(FOLDER)

    def finished_without_checkpoints(self) -> None:
        self.finished()
        shutil.rmtree(FOLDER.checkpoints)


def interrupting(name: str, step: int, times: int) -> list[object]:
    arguments = f"{{step: {step}, times: {times}, name: {name}}}"
    return ["--trainer.callbacks", f"[{{class_path: {__name__}.Once, init_args: {arguments}}}]"]


def ctrl_c(place: Place) -> int:
    return place.start(*interrupting("in a step", 2, 1))


def ctrl_c_inside_an_extension(place: Place) -> int:
    place.finished()
    return place.resume("--trainer.max_epochs", 3, *interrupting("inside an extension", 8, 1))


def ctrl_c_twice(place: Place) -> int:
    return place.start(*interrupting("twice", 5, 2))


def ctrl_c_twice_before_the_first_checkpoint(place: Place) -> int:
    return place.start(*interrupting("twice and early", 3, 2))


def a_time_limit(place: Place) -> int:
    from contrast.commands import run

    place.patch.setattr(run, "time_limit", _Times([1e-9, 1e9]))
    return place.start("--trainer.max_time", "00:00:00:01")


class _Times:
    """One after another, whatever is asked."""

    def __init__(self, seconds: list[float]) -> None:
        self._left = seconds

    def __call__(self, given: Any) -> float:
        return self._left.pop(0)


def full_disk(place: Place, at: int) -> int:
    append, calls = metrics.append_row, 0

    def full(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(*arguments)

    place.patch.setattr(metrics, "append_row", full)
    return place.start()


def a_full_disk_before_the_first_checkpoint(place: Place) -> int:
    return full_disk(place, 3)


def a_full_disk_after_a_checkpoint(place: Place) -> int:
    return full_disk(place, 6)


def a_folder_in_use(place: Place) -> int:
    place.finished()
    assert place.resume("--trainer.max_epochs", 3, *interrupting("before it is started again", 8, 1)) == 130
    return place.start()


def a_folder_in_use_without_checkpoint(place: Place) -> int:
    place.killed_before_its_first_checkpoint()
    return place.start()


def a_folder_in_use_whose_checkpoints_are_gone(place: Place) -> int:
    place.finished_without_checkpoints()
    return place.start()


def resume_without_checkpoint(place: Place) -> int:
    place.killed_before_its_first_checkpoint()
    return place.resume()


def resume_without_checkpoints_that_were_there(place: Place) -> int:
    place.killed_before_its_first_checkpoint()
    status = read_status(FOLDER.status)
    assert status is not None
    write_status(FOLDER.status, dataclasses.replace(status, checkpoint=True))
    return place.resume()


def auto_of_a_finished_run_without_checkpoints(place: Place) -> int:
    place.finished_without_checkpoints()
    return place.start("--resume", "auto")


def both_checkpoints_damaged(place: Place) -> int:
    place.finished()
    for path in (FOLDER.last_checkpoint, FOLDER.previous_checkpoint):
        path.write_bytes(path.read_bytes()[:-7])
    return place.resume()


def the_only_checkpoint_damaged(place: Place) -> int:
    both_checkpoints_damaged(place)
    FOLDER.previous_checkpoint.unlink()
    return place.start("--resume", "auto")


def a_finished_run(place: Place) -> int:
    place.finished()
    return place.resume()


def a_run_cut_short(place: Place) -> int:
    place.finished()
    return place.resume("--trainer.max_epochs", 1)


def fewer_steps(place: Place) -> int:
    place.finished()
    return place.resume("--trainer.max_steps", 4, "--trainer.max_epochs", 4)


def another_optimizer(place: Place) -> int:
    place.finished()
    return another_optimizer_of_a_run(place, "LARS")


def another_optimizer_than_the_default(place: Place) -> int:
    """The configuration of the run names none, so only the checkpoint's state tells which one it had."""
    assert place.start("--model.optimizer", "null") == 0
    return another_optimizer_of_a_run(place, "torch.optim.SGD")


def another_optimizer_of_a_run(place: Place, name: str) -> int:
    spec = f"{{class_path: {name}, init_args: {{lr: 0.1}}}}"
    return place.resume("--trainer.max_epochs", 3, "--model.optimizer", spec)


def a_changed_checkpoint(place: Place) -> int:
    place.finished()
    content = read_checkpoint(FOLDER.last_checkpoint)
    content["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"] = "x"
    write_checkpoint(content, FOLDER.last_checkpoint)
    return place.resume("--trainer.max_epochs", 3)


def an_observer_that_fails_once(place: Place) -> int:
    place.patch.setattr(Faulty, "steps", 0)
    listed = f"[{{class_path: {Faulty.__module__}.Faulty, init_args: {{how: raise}}}}]"
    return place.start("--scores.every_n_steps", 1, "--scores.observers", listed)


def the_doctor_of_a_failed_run(place: Place) -> int:
    assert full_disk(place, 6) == 1
    return main(["doctor", str(FOLDER.path)])


def printed_by_report(place: Place) -> int:
    from contrast.report import build_page, read_runs

    place.finished()
    (found,) = re.findall(r"<code>(contrast pretrain [^<]*)</code>", build_page(read_runs([FOLDER])))
    print(html.unescape(found))
    return 0


def printed_by_the_dashboard(place: Place) -> int:
    from starlette.testclient import TestClient

    from contrast.dashboard.app import dashboard_app

    page = TestClient(dashboard_app(FOLDER.path.parent), base_url="http://localhost").get("/").text
    (found,) = re.findall(r"<code>(contrast pretrain [^<]*)</code>", page)
    print(html.unescape(found))
    return 0


# By the function of the sources that prints it: what makes it print each of its commands, and its exit code then.
SAID: dict[str, dict[Callable[[Place], int], int]] = {
    "callbacks/checkpoints.py:_save_and_stop": {ctrl_c: 130, ctrl_c_inside_an_extension: 130, a_time_limit: 152},
    "callbacks/recorder.py:on_fit_end": {an_observer_that_fails_once: 2},
    "callbacks/resumed.py:_refuse": {a_changed_checkpoint: 2},
    "callbacks/resumed.py:_require_same_optimizers": {another_optimizer_than_the_default: 2},
    "commands/run.py:_how_to_continue": {ctrl_c_twice: 130, ctrl_c_twice_before_the_first_checkpoint: 130},
    "commands/run.py:_unwritable": {a_full_disk_before_the_first_checkpoint: 1, a_full_disk_after_a_checkpoint: 1},
    "commands/pretrain.py:_no_checkpoint": {
        resume_without_checkpoint: 2,
        resume_without_checkpoints_that_were_there: 2,
        auto_of_a_finished_run_without_checkpoints: 2,
    },
    "commands/resuming.py:checkpoint_to_resume": {both_checkpoints_damaged: 2, the_only_checkpoint_damaged: 2},
    "commands/resuming.py:require_same_method": {another_optimizer: 2},
    "commands/resuming.py:require_ahead": {a_finished_run: 0, a_run_cut_short: 2, fewer_steps: 2},
    "commands/starting.py:require_new": {
        a_folder_in_use: 2,
        a_folder_in_use_without_checkpoint: 2,
        a_folder_in_use_whose_checkpoints_are_gone: 2,
    },
    "dashboard/app.py:overview": {printed_by_the_dashboard: 0},
    "doctor/evidence.py:read": {the_doctor_of_a_failed_run: 0},
    "report/overview.py:overview": {printed_by_report: 0},
}
CASES = [(scenario, code) for scenarios in SAID.values() for scenario, code in scenarios.items()]


@pytest.mark.parametrize(("scenario", "code"), CASES, ids=lambda each: getattr(each, "__name__", ""))
def test_a_printed_command_works(
    scenario: Callable[[Place], int], code: int, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scenario(place) == code
    said = "".join(capsys.readouterr())
    last = [line for line in said.splitlines() if "contrast pretrain -" in line][-1]
    command = last[last.index("contrast pretrain -") :]
    before = contents() if "--run" in command and "auto" not in command else {}
    place.patch.delenv("CONTRAST_RUN", raising=False)
    words = words_of(command)
    assert main(words) == 0, command
    request = read_request(words[1:])
    run = request.run or (None if request.resume == Path("auto") else request.resume)
    if run is None:
        (run,) = Path("runs").iterdir()  # a name of its own
    status = read_status(RunFolder(run).status)
    assert status is not None
    assert status.state == "finished"
    assert status.step == status.steps
    assert {name: content for name, content in contents().items() if name in before} == before  # no record is lost


def contents() -> dict[str, bytes]:
    """Of the run's folder; its lock may be made."""
    return {str(path): path.read_bytes() for path in FOLDER.path.rglob("*") if path.is_file()}


def words_of(command: str) -> list[str]:
    """After `contrast`, as a shell gives them to a program."""
    code = f"contrast() {{ printf '%s\\0' \"$@\"; }}; {command}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, check=True)
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


def test_every_place_that_prints_a_command_is_among_them() -> None:
    helpers = {"resume_command", "restart_command", "new_run_command", "how_to_go_on", "shell_command"}
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if path.name == "next_command.py":
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                called = {node.func.id for node in ast.walk(function) if _is_call(node)}
                if called & helpers:
                    found.add(f"{path.relative_to(PACKAGE)}:{function.name}")
    assert found == SAID.keys() | {"commands/run.py:ended"}  # whose commands test_surroundings runs


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


def test_no_message_has_a_command_that_is_not_made_by_the_helpers() -> None:
    """But for the examples of --help; those of the docs are run by docs/make/run_docs.py."""
    written = re.compile(rf"contrast ({'|'.join(COMMANDS)}) (-|$|\{{)")
    found = []
    for path in PACKAGE.rglob("*"):
        if path.suffix == ".py":
            tree = ast.parse(path.read_text())
            helps = {id(node) for each in ast.walk(tree) for node in _docstrings(each)}
            texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in helps]
            found += [
                f"{path.relative_to(PACKAGE)}: {text.value!r:.80}"
                for text in texts
                if isinstance(text.value, str) and written.search(text.value) and "examples:" not in text.value
            ]
        elif path.suffix in (".html", ".js"):
            found += [f"{path.relative_to(PACKAGE)}: {each[0]}" for each in written.finditer(path.read_text())]
    assert [each for each in found if not each.startswith("commands/arguments.py")] == []  # its usage line


def _docstrings(node: ast.AST) -> list[ast.AST]:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        return []
    return [each.value for each in node.body if isinstance(each, ast.Expr)]


NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(NAMES, NAMES)
def test_any_path_comes_back_through_one_line_and_a_shell(above: str, name: str) -> None:
    """Also where the line is printed with each run of white space as one space, as errors are."""
    if {above, name} & {".", ".."}:
        return
    path = Path(above) / name
    line = " ".join(f"go on with: {shell_command('pretrain', '--resume', path)}".split(" "))
    assert "\n" not in line
    (_, resumed, found) = words_of(line.removeprefix("go on with: "))
    assert resumed == "--resume"
    assert Path(found) == path


@pytest.mark.parametrize("name", ["auto", "-x", "--resume", "$HOME", "~", "a;b", "  ", "\t\n", "it's", "\\", "é"])
def test_awkward_names(name: str) -> None:
    request = read_request(words_of(shell_command("pretrain", "--resume", Path(name)))[1:])
    assert request.resume != Path("auto")
    assert request.resume is not None
    assert request.resume.resolve() == Path(name).resolve()


def test_a_folder_named_auto_can_be_resumed() -> None:
    assert read_request(["--resume", "auto"]).resume == Path("auto")
    assert read_request(["--resume", "./auto"]).resume == Path("auto").absolute()
