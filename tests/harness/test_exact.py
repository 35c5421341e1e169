"""The tool that kills and resumes runs: it kills where it says, and it sees what is not the same."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from contrast.commands.building import build, resolve, run_parser
from contrast.commands.class_names import choices
from contrast.commands.completing import complete
from contrast.commands.configuration import compose
from contrast.commands.pretrain import read_request
from contrast.methods import ContrastiveMethod
from contrast.records import append_row, read_rows
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint, write_checkpoint
from tests.commands.running import pretrain
from tests.harness.exact.__main__ import Kill, Whole, kill_and_resume
from tests.harness.exact.differences import differences
from tests.harness.exact.processes import Process
from tests.harness.exact.runs import RUNS, command
from tests.harness.pieces import SLOTS, pieces

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One run twice."""
    one, other = (tmp_path_factory.mktemp("exact") / "run" for _ in range(2))
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        for folder in (one, other):
            assert pretrain(folder, "--metrics.every_n_steps", "1") == 0
    return one, other


def test_the_same_run_twice_is_the_same_but_for_the_clock(twins: tuple[Path, Path]) -> None:
    assert differences(*twins) == []
    times = [[row.get("seconds") for row in read_rows(folder / "metrics.jsonl")] for folder in twins]
    assert times[0] != times[1]


def weight(folder: RunFolder) -> None:
    content = read_checkpoint(folder.last_checkpoint)
    name = next(iter(content["state_dict"]))
    content["state_dict"][name] = torch.nextafter(content["state_dict"][name], torch.tensor(9.0))
    write_checkpoint(content, folder.last_checkpoint)


def counter(folder: RunFolder) -> None:
    content = read_checkpoint(folder.previous_checkpoint)
    content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] += 1
    write_checkpoint(content, folder.previous_checkpoint)


def row(folder: RunFolder) -> None:
    append_row(folder.scores, {"step": 3})


def picture(folder: RunFolder) -> None:
    path = next(folder.pictures.iterdir())
    path.write_bytes(path.read_bytes() + b"\0")


def pairs(folder: RunFolder) -> None:
    next(folder.pairs.iterdir()).unlink()


def left_over(folder: RunFolder) -> None:
    (folder.checkpoints / ".last.ckpt.7.part").touch()


@pytest.mark.parametrize("change", [weight, counter, row, picture, pairs, left_over])
def test_what_is_changed_is_seen(change: Callable[[RunFolder], None], twins: tuple[Path, Path], tmp_path: Path) -> None:
    changed = RunFolder(tmp_path / "changed")
    shutil.copytree(twins[1], changed.path)
    assert differences(twins[0], changed.path) == []
    change(changed)
    assert len(differences(twins[0], changed.path)) == 1


@pytest.mark.slow
def test_kills_inside_writes_and_at_any_moment_change_nothing() -> None:
    """Of three runs; `make exact` has all of them, and `.ci/run` a kill of each."""
    names = ["MoCHi + DCL + DBPM", "strata of a bank", "SimCLR, 2 gradients a step"]
    assert set(names) <= RUNS.keys()
    words = [sys.executable, "-m", "tests.harness.exact", "--kills", "6", "--jobs", "1", "--seed", "7"]
    words += ["--runs", *names]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == found["bit-identical"] == 6
    assert found["inside a write"] >= 3  # more where a run had ended before its moment
    assert set(found["by workers"]) == {"0", "2"}


def ran(kill: Kill, of: Whole, codes: list[int], tmp_path: Path) -> tuple[Kill, list[Process]]:
    """What comes of a kill whose processes end with these exit codes, and the processes."""
    started: list[Process] = []

    def start(words: list[str], folder: Path, log: Path, **when: Any) -> Process:
        log.write_text("said")
        folder.mkdir()
        process = Process(len(started) + 1, folder, when.get("kill_after"))
        process.kill_at = when.get("kill_at")  # type: ignore[attr-defined]  # for the test
        started.append(process)
        return process

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tests.harness.exact.__main__.start", start)
        patched.setattr("tests.harness.exact.__main__.differences", lambda *_: [])
        chain = kill_and_resume(kill, of, 6, 3, tmp_path)
        next(chain)
        for code in codes[:-1]:
            shutil.rmtree(started[-1].folder)
            chain.send(code)
        try:
            chain.send(codes[-1])
        except StopIteration as end:
            return end.value, started
    raise AssertionError("it wants more processes")


ANY = Kill("SimCLR", 0, "any moment", None, None)


@pytest.mark.parametrize("ended", range(5))
def test_a_run_that_ended_before_its_kill_is_killed_sooner(ended: int, tmp_path: Path) -> None:
    """Five tries by the clock could all come too late: then it is killed inside a write."""
    kill, started = ran(ANY, Whole({"record": 40}, 100.0), [*[0] * ended, -signal.SIGKILL, 0], tmp_path)
    assert kill.wrong == ()
    assert len(started) == ended + 2
    assert (started[ended].kill_after is None) == (ended == 4)
    assert (kill.kind == "record") == (ended == 4)


def test_a_write_that_does_not_come_is_looked_for_sooner(tmp_path: Path) -> None:
    kill = Kill("SimCLR", 0, "write", "record", 40)
    done, started = ran(kill, Whole({"record": 40}, 1.0), [0, 0, -signal.SIGKILL, 0], tmp_path)
    assert done.wrong == ()
    assert [each.kill_at for each in started[:3]] == [("record", 40), ("record", 20), ("record", 10)]  # type: ignore[attr-defined]


def test_a_run_that_fails_before_its_kill_is_told(tmp_path: Path) -> None:
    kill, _ = ran(ANY, Whole({"record": 40}, 1.0), [0, 1], tmp_path)
    assert kill.wrong == ("before its kill: exit code 1: said",)


@pytest.mark.slow
def test_a_real_run_whose_moment_lies_beyond_its_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.harness.exact.__main__ import Kill, Whole, kill_and_resume, whole\n"
        "from tests.harness.exact.processes import all_of, import_everything\n"
        "import_everything()\n"
        "scratch = Path(sys.argv[1])\n"
        "((name, of),) = all_of([whole('SimCLR', 2, scratch)], 1)\n"
        "kill = Kill(name, 0, 'any moment', None, None)\n"
        "(done,) = all_of([kill_and_resume(kill, Whole(of.counts, 1e6), 2, 1, scratch)], 1)\n"
        "print(done)\n"
        "sys.exit(bool(done.wrong))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def killed() -> set[str]:
    """Names of the classes that the runs are made of: those they name, and what a method takes that is told nothing."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        named = (word for name in RUNS for word in re.findall(r"\w+", str(composed(name)["model"])))
        return set(named).union(*(pieces(model_of(name)) for name in ("SimCLR", "SimSiam", "BYOL", "Barlow Twins")))


def composed(name: str) -> dict[str, Any]:
    request = read_request(command(name, "nowhere", 0, 1)[1:])
    return compose(request.files, request.flags).config


def model_of(name: str) -> ContrastiveMethod:
    parser = run_parser()
    typed, _ = resolve(parser, complete(composed(name)))
    method: ContrastiveMethod = build(parser, typed).model
    return method


@pytest.mark.parametrize("slot", SLOTS)
def test_every_piece_is_in_a_run_that_is_killed(slot: str, killed: set[str]) -> None:
    assert set(choices(slot)) <= killed


def test_every_change_has_a_kill_of_every_run() -> None:
    (kills,) = re.findall(r"KILLS=(\d+)", (ROOT / ".ci/run").read_text())
    assert int(kills) == len(RUNS)


def test_a_process_dies_in_the_middle_of_the_write_that_was_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.harness.exact.writes import Writes\n"
        "from contrast.records import append_row\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "Writes(folder, ('record', 4)).watch()\n"  # opened, written, opened, written
        "append_row(folder / 'metrics.jsonl', {'step': 1})\n"
        "append_row(folder / 'metrics.jsonl', {'step': 2})\n"
        "print('lived')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"step":1}\n{"ste'
    assert read_rows(tmp_path / "metrics.jsonl") == [{"step": 1}]
