"""A finished run, made once, and everything that reads it once one of its files is damaged."""

from __future__ import annotations

import atexit
import json
import pickle
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from hypothesis import strategies as st

from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import write_checkpoint
from tests.harness.fuzz.arrays import Trap
from tests.harness.fuzz.bases import bases
from tests.harness.fuzz.case import Case
from tests.harness.fuzz.child import PAGES, run_forked
from tests.harness.fuzz.damage import damage, ways
from tests.harness.fuzz.values import anything, traps

__all__ = ["READERS", "checkpoints", "copied_run", "finished_run", "run_folders"]

READERS: dict[str, tuple[str, ...]] = {
    "report": ("report", "runs/first"),
    "doctor": ("doctor", "runs/first", "--json"),
    "pages": (PAGES, "runs"),
    "export": ("export", "runs/first"),
    "knn": ("knn", "runs/first", "--neighbours", "5"),
    "probe": ("probe", "runs/first", "--per-class", "2", "--seeds", "1"),
    "duplicates": ("duplicates", "runs/first"),
    "resume": ("pretrain", "--resume", "runs/first", "--trainer.max_steps", "3", "--trainer.max_epochs", "3"),
}


@cache
def finished_run() -> Path:
    """A folder with ``runs/first``: of MoCo with a bank, evaluated and exported."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-run-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    config = dict(bases()["bad_pair_mining on mocov2"])
    config["pairs"] = {"epochs": 1, "gallery": 1}
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    start = ("pretrain", "--config", "config.yaml", "--run", "runs/first")
    for arguments in (start, *(READERS[name] for name in ("knn", "probe", "export", "report", "duplicates"))):
        code, _ = run_forked(arguments, place, place, 120)
        assert code == 0, (place / "stderr").read_text()
    return place


def copied_run(folder: Path) -> Path:
    """A copy of the finished run in a folder."""
    shutil.copytree(finished_run() / "runs", folder / "runs")
    return folder / "runs/first"


@st.composite
def run_folders(draw: Callable) -> Case:
    """One file of a run damaged or, where it is of JSON or YAML, with an odd value in it; and one command."""
    place = finished_run() / "runs/first"
    names = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    # Of many pictures one is enough.
    names = [name for name in names if not name.startswith("gallery/")] + [
        next(name for name in names if name.startswith("gallery/"))
    ]
    name = draw(st.sampled_from(names))
    reader = draw(st.sampled_from(sorted(READERS)))
    written = name.endswith((".json", ".jsonl", ".yaml"))
    if written and draw(st.integers(0, 2)):
        odd, seed = draw(anything()), draw(st.integers(0, 10**6))
        what = f"{name} with {odd!r:.80} in it ({seed})"
        prepare = lambda folder: _with_odd(copied_run(folder) / name, odd, seed)  # noqa: E731  # a closure of this draw
    else:
        done = draw(ways())
        what = f"{name} {done[0]} ({done[1]})"
        prepare = lambda folder: damage(copied_run(folder) / name, *done)  # noqa: E731  # as above
    return Case("run folder", f"{what}, {reader}", READERS[reader], prepare)


def _with_odd(file: Path, odd: Any, seed: int) -> None:
    """Put a value at some place of a file; of rows, into the last one or two."""
    numbers = random.Random(seed)
    if file.suffix == ".jsonl":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows[-numbers.choice([1, 2, len(rows)]) :]:
            _put(row, odd, random.Random(seed))
        file.write_text("".join(_json(row) + "\n" for row in rows))
        return
    content = yaml.safe_load(file.read_text()) if file.suffix == ".yaml" else json.loads(file.read_text())
    _put(content, odd, numbers)
    file.write_text(yaml.safe_dump(content) if file.suffix == ".yaml" else _json(content))


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


def _put(value: Any, odd: Any, numbers: random.Random) -> None:
    """Walk down to a place drawn by `numbers` and exchange what is there."""
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        if not keys:
            return
        key = numbers.choice(list(keys))
        if isinstance(value[key], dict | list) and value[key] and numbers.random() < 0.8:
            value = value[key]
            continue
        value[key] = odd
        return


@st.composite
def checkpoints(draw: Callable) -> Case:
    """The last checkpoint damaged, of another sort, or with odd or dangerous content."""
    reader = draw(st.sampled_from(["export", "knn", "probe", "duplicates", "resume"]))
    way = draw(st.sampled_from(["damage", "damage", "content", "content", "trap", "whole"]))
    if way == "damage":
        done = draw(ways())
        what, change = f"{done[0]} ({done[1]})", lambda file: damage(file, *done)
    elif way == "whole":
        what = draw(st.sampled_from(sorted(_WHOLE)))
        change = _WHOLE[what]
    else:
        odd, seed = draw(anything() if way == "content" else st.sampled_from(traps)), draw(st.integers(0, 10**6))
        deep = draw(st.booleans())
        what = f"{odd!r:.80} in {'the configuration' if deep else 'it'} ({seed})"

        def change(file: Path) -> None:
            _changed(file, odd, seed, deep)

    return Case(
        "checkpoint",
        f"{what}, {reader}",
        READERS[reader],
        lambda folder: change(RunFolder(copied_run(folder)).last_checkpoint) and None,
    )


def _changed(file: Path, odd: Any, seed: int, deep: bool) -> None:
    content = torch.load(file, weights_only=True)
    _put(content["contrast"]["config"] if deep else content, odd, random.Random(seed))
    write_checkpoint(content, file)


def _trap(file: Path) -> None:
    torch.save({"state_dict": Trap(), "contrast": Trap()}, file)


def _bare_trap(file: Path) -> None:
    file.write_bytes(pickle.dumps(Trap()))


def _other_zip(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../outside", "x")
        archive.writestr("data.pkl", "x")


def _other_weights(file: Path) -> None:
    content = torch.load(file, weights_only=True)
    content["state_dict"] = {name: torch.zeros(3) for name in content["state_dict"]}
    write_checkpoint(content, file)


def _not_finite(file: Path) -> None:
    content = torch.load(file, weights_only=True)
    for tensor in content["state_dict"].values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))
    write_checkpoint(content, file)


def _no_weights(file: Path) -> None:
    write_checkpoint({**torch.load(file, weights_only=True), "state_dict": {}}, file)


_WHOLE: dict[str, Callable[[Path], None]] = {
    "a pickle that runs something": _trap,
    "a bare pickle that runs something": _bare_trap,
    "a zip of something else": _other_zip,
    "other weights": _other_weights,
    "NaN in every weight": _not_finite,
    "a tensor": lambda file: torch.save(torch.zeros(3), file),
    "a list": lambda file: torch.save([1, 2], file),
    "an empty mapping": lambda file: torch.save({}, file),
    "a script": lambda file: torch.jit.script(torch.nn.Linear(2, 2)).save(str(file)),
    "contrast of nothing": lambda file: torch.save({"contrast": None}, file),
    "contrast of a format alone": lambda file: write_checkpoint({"contrast": {"format": 1}}, file),
    "a later format": lambda file: torch.save({"contrast": {"format": 99, "config": {}}}, file),
    "no weights": _no_weights,
}
