"""A resume on other training data is refused in one line, or matches samples by name and moves their state."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import Dataset

from contrast.banks import IVF, FaissBank, KeyQueue
from contrast.callbacks.pair_history import moved_state
from contrast.cli import main
from contrast.data import Digits, ImageFolder
from contrast.data.identity import names_of
from contrast.losses import BadPairMining
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint, write_checkpoint
from contrast.runs.status import read_status
from tests.commands.running import SMALL, StopAt

HARDEST = "{class_path: Hardest, init_args: {count: 4}}"
BANK = f"{{class_path: FaissBank, init_args: {{per_sample: true, size: 40, mining: {HARDEST}}}}}"
MINING = "{class_path: BadPairMining, init_args: {warmup_epochs: 1, noisy: 0.5, faulty: 0.5}}"


def _pictures(root: Path, count: int) -> Path:
    for number, (image, _) in zip(range(count), Digits(), strict=False):
        path = root / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    return root


def _arrays(path: Path, count: int) -> Path:
    digits = Digits()
    images = np.stack([digits[number][0][0].numpy() for number in range(count)])
    np.savez(path, images=images, labels=digits.labels[:count].numpy())
    return path


class Few(Dataset[Any]):
    """Digits by a class of which nothing is known: as many as a file says."""

    def __init__(self, path: str) -> None:
        self.count, self.kept = int(Path(path).read_text()), Digits()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.kept[index]


def _started(folder: Path, train: str, *arguments: str) -> RunFolder:
    """A run of one epoch on this training set."""
    flags = ["--data.train", train, "--data.test", "null", "--data.limit", "null", "--data.batch_size", "6"]
    short = ["--trainer.max_epochs", "1", "--pairs.gallery", "40"]
    assert main(["pretrain", *SMALL, "--run", str(folder), *flags, *short, *arguments]) == 0
    return RunFolder(folder)


def _folder_run(tmp_path: Path, *arguments: str, count: int = 24) -> tuple[RunFolder, Path]:
    root = _pictures(tmp_path / "photos", count)
    spec = f"{{class_path: contrast.data.ImageFolder, init_args: {{root: {root}}}}}"
    return _started(tmp_path / "run", spec, *arguments), root


def _resume(run: RunFolder, *arguments: str) -> int:
    return main(["pretrain", "--resume", str(run.path), "--trainer.max_epochs", "2", *arguments])


def _files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def _add(root: Path) -> None:
    shutil.copy(root / "cat" / "2.png", root / "cat" / "1000.png")


def _rename(root: Path) -> None:
    (root / "cat" / "2.png").rename(root / "cat" / "two.png")


def _replace(root: Path) -> None:
    Image.new("L", (8, 8)).save(root / "cat" / "2.png")


def _to_another_class(root: Path) -> None:
    (root / "cat" / "2.png").rename(root / "dog" / "2.png")


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "one more": (_add, "24 samples then, 25 now"),
    "one less": (lambda root: (root / "cat" / "2.png").unlink(), "24 samples then, 23 now"),
    "another name": (_rename, "checksum of the names"),
    "another class": (_to_another_class, "checksum of the names"),
    "another picture": (_replace, "checksum of sizes of the files"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("finished")
    _folder_run(home)
    return home


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> tuple[RunFolder, Path]:
    """A finished run and its pictures, whose folder is the same for all: its path is in the configuration."""
    root = finished / "photos"
    shutil.rmtree(root)
    _pictures(root, 24)
    return RunFolder(Path(shutil.copytree(finished / "run", tmp_path / "run"))), root


@pytest.mark.parametrize("change", CHANGES)
def test_a_resume_on_other_data_is_refused_and_loses_nothing(change, copied, capsys):
    run, root = copied
    before = _files(run.path)
    act, said = CHANGES[change]
    act(root)
    assert _resume(run) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert said in line
    assert "--resume-on-changed-data" in line
    assert repr(str(root)) in line
    assert _files(run.path) == before
    status = read_status(run.status)
    assert status is not None
    assert status.state == "finished"


def test_other_times_of_the_files_are_no_other_data(copied):
    run, root = copied
    for path in root.rglob("*.png"):
        path.touch()
    assert _resume(run) == 0


def test_samples_are_matched_by_name_and_their_history_moves_with_them(tmp_path, capsys):
    settings = ("--model", "MoCo", "--model.bank", BANK, "--model.loss.weighting", MINING)
    run, root = _folder_run(tmp_path, *settings)
    first, old = ImageFolder(root), load_file(run.pairs / "epoch-00000.safetensors")
    names = names_of(first)
    (root / "dog" / "1.png").unlink()
    (root / "ant").mkdir()
    shutil.copy(root / "dog" / "3.png", root / "ant" / "0.png")  # the first in order: every number moves
    assert _resume(run) == 2
    assert _resume(run, "--resume-on-changed-data") == 0
    assert "24 samples then, 24 now" not in (said := capsys.readouterr().err)
    assert "23 samples matched, 1 new, 1 removed" in said
    now = names_of(ImageFolder(root))
    assert names is not None
    assert now is not None
    assert now[0] == "ant/0.png"
    moved = load_file(run.pairs / "epoch-00000.safetensors")
    assert moved["loss"][0].isnan()
    for place, name in enumerate(now[1:], 1):
        assert moved["loss"][place].equal(old["loss"][names.index(name)]), name
    assert load_file(run.pairs / "all_epochs.safetensors")["seen"].tolist() == [1, *[2] * 23]
    count = read_checkpoint(run.last_checkpoint)["state_dict"]["loss.weighting.count"]
    assert count.tolist() == [1, *[2] * 23]
    row = read_rows(run.gallery)[-1]
    for pair in row["highest"] + row["lowest"]:
        epochs = [1] if pair["index"] == 0 else [0, 1]
        assert pair["history"]["epoch"] == [0, 1]
        assert [epoch for epoch, loss in enumerate(pair["history"]["loss"]) if loss is not None] == epochs


def test_moving_the_files_of_pairs_again_changes_nothing(tmp_path):
    """A run that is killed between the move and its first checkpoint moves them again."""
    run, root = _folder_run(tmp_path)
    _add(root)
    last = run.last_checkpoint.read_bytes()
    assert _resume(run, "--resume-on-changed-data") == 0
    moved = load_file(run.pairs / "epoch-00000.safetensors")
    run.last_checkpoint.write_bytes(last)
    assert _resume(run, "--resume-on-changed-data") == 0
    again = load_file(run.pairs / "epoch-00000.safetensors")
    assert all(torch.equal(again[name].nan_to_num(-1), moved[name].nan_to_num(-1)) for name in moved)


@pytest.mark.parametrize("count", [13, 40])
def test_a_run_in_mid_epoch_goes_on_with_fewer_or_more_samples(count, tmp_path, capsys, monkeypatch):
    root = _pictures(tmp_path / "photos", 24)
    spec = f"{{class_path: contrast.data.ImageFolder, init_args: {{root: {root}}}}}"
    flags = ["--data.train", spec, "--data.test", "null", "--data.limit", "null", "--data.batch_size", "6"]
    stop = ["--trainer.callbacks", "[{class_path: tests.commands.running.StopAt, init_args: {step: 3}}]"]
    assert StopAt is not None
    code = main(["pretrain", *SMALL, "--run", str(tmp_path / "run"), *flags, *stop])
    assert code == 130
    shutil.rmtree(root)
    _pictures(root, count)
    run = RunFolder(tmp_path / "run")
    assert _resume(run, "--resume-on-changed-data", "--trainer.callbacks", "null") == 0
    assert f"{min(count, 24)} samples matched, {max(0, count - 24)} new, {max(0, 24 - count)} removed" in (
        said := capsys.readouterr().err
    )
    assert "the rest of epoch 0 follows the new data's order" in said
    status = read_status(run.status)
    assert status is not None
    assert status.state == "finished"


def test_of_arrays_only_appended_samples_are_matched(tmp_path, capsys):
    path = _arrays(tmp_path / "a.npz", 24)
    run = _started(tmp_path / "run", f"{{class_path: ArrayImages, init_args: {{path: {path}}}}}")
    _arrays(path, 30)
    assert _resume(run) == 2
    assert "24 samples then, 30 now" in capsys.readouterr().err
    with np.load(path) as kept:
        arrays = dict(kept)
    np.savez(path, images=arrays["images"][::-1], labels=arrays["labels"])
    assert _resume(run, "--resume-on-changed-data") == 2
    assert "cannot be matched" in capsys.readouterr().err
    _arrays(path, 23)
    assert _resume(run, "--resume-on-changed-data") == 2
    assert "cannot be matched" in capsys.readouterr().err
    _arrays(path, 30)
    assert _resume(run, "--resume-on-changed-data") == 0
    assert "24 samples matched, 6 new, 0 removed" in capsys.readouterr().err


def test_other_pixels_or_labels_of_an_array_are_other_data(tmp_path, capsys):
    path = _arrays(tmp_path / "a.npz", 24)
    run = _started(tmp_path / "run", f"{{class_path: ArrayImages, init_args: {{path: {path}}}}}")
    with np.load(path) as kept:
        arrays = dict(kept)
    np.savez(path, images=255 - arrays["images"], labels=arrays["labels"])
    assert _resume(run) == 2
    assert "checksum of all bytes of the array" in capsys.readouterr().err
    np.savez(path, images=arrays["images"], labels=arrays["labels"][::-1])
    assert _resume(run) == 2
    assert "checksum of the labels" in capsys.readouterr().err
    assert _resume(run, "--resume-on-changed-data") == 0


def test_a_class_of_unknown_kind_is_refused_by_its_number_of_samples(tmp_path, capsys):
    (tmp_path / "count").write_text("24")
    spec = f"{{class_path: tests.commands.test_changed_data.Few, init_args: {{path: {tmp_path / 'count'}}}}}"
    run = _started(tmp_path / "run", spec)
    assert _resume(run, "--trust") == 0
    (tmp_path / "count").write_text("25")
    assert _resume(run, "--trust") == 2
    assert "24 samples then, 25 now" in capsys.readouterr().err
    assert _resume(run, "--trust", "--resume-on-changed-data") == 2
    assert "cannot be matched" in capsys.readouterr().err


def test_a_data_set_with_no_sample_of_the_run_is_refused(copied, capsys):
    run, root = copied
    for path in sorted(root.rglob("*.png")):
        path.rename(path.with_name(f"other{path.name}"))
    assert _resume(run, "--resume-on-changed-data") == 2
    assert "have no sample name in common" in capsys.readouterr().err


@pytest.mark.parametrize("pairs", [40, 0])
def test_a_checkpoint_that_names_no_data_is_refused_by_the_size_of_its_state(pairs, tmp_path, capsys):
    run, root = _folder_run(tmp_path, "--pairs.epochs", str(pairs), "--model.loss.weighting", MINING)
    for path in (run.last_checkpoint, run.previous_checkpoint):
        if path.is_file():
            content = read_checkpoint(path)
            del content["contrast"]["data"]
            write_checkpoint(content, path)
    before = _files(run.path)
    _add(root)
    for flags in ((), ("--resume-on-changed-data",)):
        assert _resume(run, *flags) == 2
        assert "was written on 24 training samples, and there are 25 now" in capsys.readouterr().err
        assert _files(run.path) == before
    (root / "cat" / "1000.png").unlink()
    assert _resume(run) == 0


def test_the_flag_without_a_resume_is_refused(capsys):
    assert main(["pretrain", "--resume-on-changed-data"]) == 2
    assert "needs --resume FOLDER: give both" in capsys.readouterr().err


NUMBERS = st.lists(st.integers(0, 19), unique=True, min_size=1, max_size=12)


def _matching(old: list[int], new: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    old_of = torch.tensor([old.index(name) if name in old else -1 for name in new])
    new_of = torch.tensor([new.index(name) if name in new else -1 for name in old])
    return old_of, new_of


@settings(deadline=None)
@given(old=NUMBERS, new=NUMBERS)
def test_what_is_kept_of_a_sample_goes_with_its_name(old: list[int], new: list[int]) -> None:
    """Losses, histories, and keys of every bank; the value of each is the sample's name."""
    old_of, new_of = _matching(old, new)
    mining = BadPairMining(samples=len(old))
    mining.total.copy_(torch.tensor(old))
    mining.count.copy_(torch.tensor(old) + 1)
    state: dict[str, Any] = {f"w.{name}": value.clone() for name, value in mining.state_dict().items()}
    mining.move_samples(state, "w.", old_of, new_of)
    assert state["w.total"].tolist() == [name if name in old else 0 for name in new]
    assert state["w.count"].tolist() == [name + 1 if name in old else 0 for name in new]
    columns = torch.tensor(old, dtype=torch.float64).expand(5, -1)
    moved = moved_state({"sums": columns.float(), "running": columns}, old_of)
    assert moved["running"].tolist() == [[name if name in old else 0 for name in new]] * 5

    names = torch.tensor(old)
    keys = torch.nn.functional.one_hot(names, 20).float()
    for bank in (
        FaissBank(20, size=24, per_sample=True, approximate=IVF(lists=1, effort=1, above=1)),
        FaissBank(20, size=24),
        KeyQueue(20, size=24),
    ):
        shuffled = torch.randperm(len(old))
        bank.store(keys[shuffled], shuffled)
        state = {f"b.{name}": value for name, value in bank.state_dict().items()}
        grown = (
            FaissBank(20, size=30, per_sample=True) if isinstance(bank, FaissBank) and bank.rows.per_sample else bank
        )
        for name, module in grown.named_modules():
            if hasattr(module, "move_samples"):
                module.move_samples(state, f"b.{name}." if name else "b.", old_of, new_of)
        grown.load_state_dict(
            {name[2:]: value for name, value in state.items() if "approximate" not in name or grown is bank}
        )
        key, index = grown.stored()
        known = dict(zip(index.tolist(), key.argmax(dim=1).tolist(), strict=True))
        known.pop(-1, None)
        assert known == {new.index(name): name for name in old if name in new}
        if grown is not bank:  # a row a sample: those of samples that are gone go, and the next ones find their places
            assert -1 not in index
            grown.store(torch.eye(20)[torch.tensor(new)], torch.arange(len(new)))
            key, index = grown.stored()
            assert dict(zip(index.tolist(), key.argmax(dim=1).tolist(), strict=True)) == dict(enumerate(new))
