"""What is read from files runs nothing, writes nothing outside its folder, and connects to nobody."""

from __future__ import annotations

import base64
import json
import pickle
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from contrast.callbacks.loggers import sheets_of
from contrast.cli import main
from contrast.evaluation.features import Features, cached_features
from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint, write_checkpoint
from tests.fuzz.asking import refused, written
from tests.harness.fuzz.arrays import Trap
from tests.harness.fuzz.bases import bases
from tests.harness.fuzz.case import SPRUNG

SLOTS = [
    *("model", "model__backbone", "model__head", "model__loss", "model__optimizer", "model__schedule", "model__bank"),
    *("model__loss__objective", "model__loss__temperature", "model__loss__weighting", "data", "data__train"),
    *("data__test", "data__views", "trainer__logger", "trainer__callbacks", "trainer__strategy", "trainer__profiler"),
    "scores__observers",
]
BUILT = ["model", "backbone", "head", "loss", "optimizer", "bank"]
TRAPS = [
    {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", SPRUNG]}},
    {"class_path": "os.system", "init_args": {"command": f"touch {SPRUNG}"}},
    {"class_path": "builtins.eval", "init_args": {"source": f"open({SPRUNG!r}, 'w')"}},
    {"class_path": "builtins.open", "init_args": {"file": SPRUNG, "mode": "w"}},
    {"class_path": "torch.load", "init_args": {"f": "trap.pt", "weights_only": False}},
    {"class_path": "pathlib.Path", "init_args": {"args": [SPRUNG]}},
    {"class_path": "trap.Trap"},
]


def everywhere(slots: list[str]) -> list[Any]:
    """Every trap in every slot; of these, each slot and each trap once, and the rest slow."""
    return [
        pytest.param(
            slot,
            trap,
            id=f"{trap['class_path']}-{slot}",
            marks=() if place % len(TRAPS) == number else pytest.mark.slow,
        )
        for place, slot in enumerate(slots)
        for number, trap in enumerate(TRAPS)
    ]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a pickle and a module that leave a file where somebody runs them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "trap.py").write_text(f"class Trap:\n    def __init__(self):\n        open({SPRUNG!r}, 'w').close()\n")
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder, to be copied before it is changed."""
    place = tmp_path_factory.mktemp("finished")
    assert main(["pretrain", "--config", str(written(place, "mocov2")), "--run", str(place / "run")]) == 0
    return place / "run"


@pytest.fixture
def run(finished: Path, here: Path) -> RunFolder:
    """A copy of the finished run."""
    shutil.copytree(finished, here / "run")
    return RunFolder(here / "run")


@pytest.mark.parametrize(("slot", "trap"), everywhere(SLOTS))
def test_no_slot_takes_a_function_or_a_strange_class(
    slot: str, trap: dict[str, Any], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(here, "mocov2", **{slot: trap})
    refused(capsys, ["pretrain", "--config", file, "--run", "run"])
    assert not (here / SPRUNG).exists()
    assert not (here / "run").exists()


def test_a_class_that_is_not_allowed_is_not_even_imported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sys.modules.pop("antigravity", None)
    refused(capsys, ["pretrain", "--config", written(here, model__backbone={"class_path": "antigravity.Fly"})])
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("loader", ["torch.load", "pickle.load", "shutil.rmtree", "os.remove", "numpy.load"])
def test_no_function_of_a_data_set_is_dangerous(loader: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "images/a").mkdir(parents=True)
    (here / "images/a/x.png").write_bytes(pickle.dumps(Trap()))
    source = {"class_path": "torchvision.datasets.ImageFolder", "init_args": {"root": "images", "loader": loader}}
    refused(capsys, ["pretrain", "--config", written(here, data__train=source), "--run", "run"])
    assert (here / "images/a/x.png").exists()
    assert not (here / SPRUNG).exists()


def _whole(path: Path) -> None:
    torch.save({"state_dict": Trap(), "contrast": Trap()}, path)


def _within(path: Path) -> None:
    content = {**read_checkpoint(path), "extra": Trap()}
    write_checkpoint(content, path)


@pytest.mark.parametrize("damage", [_whole, _within, lambda path: path.write_bytes(pickle.dumps(Trap()))])
@pytest.mark.parametrize("command", [["export"], ["knn"], ["probe"], ["duplicates"], ["pretrain", "--resume"]])
def test_a_checkpoint_that_would_run_code(
    damage: Any, command: list[str], run: RunFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run.last_checkpoint)
    run.previous_checkpoint.unlink(missing_ok=True)
    refused(capsys, [*command, "run"], "last.ckpt")
    assert not (here / SPRUNG).exists()


@pytest.mark.parametrize(("slot", "trap"), everywhere([*BUILT, "train", "views"]))
def test_classes_named_in_a_checkpoint(
    slot: str, trap: dict[str, Any], run: RunFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read_checkpoint(run.last_checkpoint)
    config = content["contrast"]["config"]
    holder = config if slot == "model" else config["data" if slot in ("train", "views") else "model"]["init_args"]
    holder[slot] = trap
    write_checkpoint(content, run.last_checkpoint)
    refused(capsys, ["export", "run"])
    assert not (here / SPRUNG).exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_weights_that_would_run_code(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Trap()}, here / name)
    (here / "data.yaml").write_text(yaml.safe_dump({"data": bases()["simclr"]["data"]}))
    refused(capsys, ["knn", "--weights", name, "--backbone", "resnet18", "--data", "data.yaml"], name)
    assert not (here / SPRUNG).exists()


def test_an_export_holds_tensors_and_nothing_else(run: RunFolder, here: Path) -> None:
    assert main(["export", "run"]) == 0
    assert sorted(path.suffix for path in run.export.iterdir()) == [".json", ".safetensors"]


def test_a_feature_cache_that_would_run_code_is_computed_again(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = Features(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    for content in (pickle.dumps(Trap()), b"", b"\xff" * 100, None):
        path = here / f"{'k' * 32}.safetensors"
        torch.save(Trap(), path) if content is None else path.write_bytes(content)
        found = cached_features(here, "k" * 64, lambda: good)
        assert found.features.shape == (2, 3)
        assert not (here / SPRUNG).exists()
    save_file({"features": torch.zeros(2)}, path, metadata={"key": "k" * 64})
    assert cached_features(here, "k" * 64, lambda: good).features.shape == (2, 3)


OUTSIDE = ["../../outside.png", "/etc/hostname", "../outside.png", "gallery/../../outside.png", "a\0b", "x" * 5000]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_run_folder_names_no_picture_outside_it(name: str, run: RunFolder, here: Path) -> None:
    secret = b"\x89PNG\r\n\x1a\nsecret"
    (here / "outside.png").write_bytes(secret)
    row = {"step": 9, "epoch": 1, "highest": [{"index": 0, "pictures": [name]}], "queries": [{"picture": name}]}
    run.gallery.write_text(json.dumps(row) + "\n")
    assert base64.b64encode(secret).decode()[:16] not in build_page(read_runs([run]))


@pytest.mark.parametrize("name", ["../../outside.png", "../outside.png", "/etc/hostname", "gallery/link.png", 3, None])
def test_no_picture_from_outside_is_sent_to_a_logger(name: Any, run: RunFolder, here: Path) -> None:
    (here / "outside.png").write_bytes(b"secret")
    run.pictures.mkdir(exist_ok=True)
    (run.pictures / "link.png").symlink_to(here / "outside.png")
    query = {"index": 0, "label": 0, "positive": 0.1, "picture": name}
    negative = {"picture": name, "label": 0, "score": 0.1, "share": 0.1, "kind": "shared"}
    (sheet,) = sheets_of(run, {"queries": [{**query, "negatives": [negative]}]})
    assert sheet.rows[0][0] is None
    assert sheet.lines == [[[None], [None]]]


@pytest.mark.parametrize("name", ["metrics.jsonl", "scores.jsonl", "bank.jsonl"])
def test_a_resumed_run_writes_through_no_link(
    name: str, run: RunFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = here / "precious"
    precious.write_text("kept")
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).symlink_to(precious)
    longer = ["--trainer.max_steps", "3", "--trainer.max_epochs", "3"]
    table = run.metrics_table.read_bytes()
    refused(capsys, ["pretrain", "--resume", "run", *longer], name, code=1)
    assert precious.read_text() == "kept"
    if name == "metrics.jsonl":
        assert run.metrics_table.read_bytes() == table


@pytest.mark.parametrize("name", ["config.yaml", "status.json", "metrics.csv", "report.html", "checkpoints/last.ckpt"])
def test_what_is_replaced_is_the_link_and_not_what_it_leads_to(name: str, run: RunFolder, here: Path) -> None:
    precious = here / "precious"
    (run.path / name).unlink(missing_ok=True) if name == "report.html" else (run.path / name).rename(precious)
    precious.write_text("kept") if name == "report.html" else None
    before = precious.read_bytes()
    (run.path / name).symlink_to(precious)
    assert main(["pretrain", "--resume", "run", "--trainer.max_steps", "3", "--trainer.max_epochs", "3"]) == 0
    assert main(["report", "run"]) == 0
    assert precious.read_bytes() == before


def test_a_folder_of_traps_is_only_read(run: RunFolder, here: Path) -> None:
    """YAML tags, pickles under every name: a report, the doctor and the dashboard's list run none of them."""
    run.config.write_text(f"model: !!python/object/apply:os.system ['touch {SPRUNG}']\n")
    for path in (run.metrics, run.scores, run.status, run.bank, run.pairs / "all_epochs.safetensors"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(Trap()))
    assert main(["report", "run"]) == 0
    assert main(["doctor", "run"]) == 0
    assert not (here / SPRUNG).exists()


def test_nothing_connects_unless_a_logger_was_asked_for(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training, evaluating and reporting open no connection: names are not looked up either."""

    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError(f"a connection to {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert main(["pretrain", "--config", str(written(run.path.parent)), "--run", str(run.path.parent / "again")]) == 0
    for command in (
        ["knn", "--neighbours", "5"],
        ["probe", "--per-class", "2", "--seeds", "1"],
        ["export"],
        ["report"],
        ["doctor"],
    ):
        assert main([command[0], str(run.path), *command[1:]]) == 0


def test_a_run_writes_inside_its_folder_alone(here: Path) -> None:
    before = set(here.rglob("*"))
    assert main(["pretrain", "--config", str(written(here, "mocov2")), "--run", "run"]) == 0
    assert main(["knn", "run", "--neighbours", "5"]) == 0
    assert main(["report", "run"]) == 0
    new = {path.relative_to(here).parts[0] for path in set(here.rglob("*")) - before}
    assert new <= {"run", "config.yaml", "__pycache__"}
