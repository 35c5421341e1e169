"""The logger overlays: what reaches W&B and TensorBoard is what the run's own files hold, and nobody is asked."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from contrast.callbacks.loggers import drawn, sheets_of
from contrast.cli import main
from contrast.records import read_rows
from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from tests.commands.running import SMALL, pretrain
from tests.commands.wandb_log import history, of_type, summary, table, until_ended

ROOT = Path(__file__).parents[2]
MINING = [
    "--model.loss.weighting", "BadPairMining", "--model.loss.weighting.warmup_epochs", "1",
    "--model.loss.weighting.noisy", "0.5", "--model.loss.weighting.faulty", "0.5",
]  # fmt: skip
"""Pairs are flagged in the second epoch."""
HISTOGRAMS = {"positive": -1.0, "negative": -1.0, "hardest": -1.0, "same_class": -1.0, "coupling": 0.0}
"""Of a run of SimCLR on labelled data, and where their bins begin."""


def scalars(folder: RunFolder) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl as a logger gets them."""
    return [{name: row[name] for name in row if name != "seconds"} for row in read_rows(folder.metrics)]


def test_wandb_offline_without_account_network_or_terminal(tmp_path: Path) -> None:
    folder, home, scratch = RunFolder(tmp_path / "run"), tmp_path / "home", tmp_path / "scratch"
    for made in (home, scratch):
        made.mkdir()
    names = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "contrast", "pretrain", *SMALL, *MINING, "--config", "configs/logger/wandb.yaml"]
    done = subprocess.run(
        [*command, "--online_knn.every_n_epochs", "1", "--run", folder.path],
        cwd=ROOT,
        env={**names, **nowhere, "HOME": str(home), "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    assert "log_every_n_steps" not in done.stderr
    (file,) = folder.path.glob("wandb/offline-run-*/run-*.wandb")
    until_ended(file)
    # Outside the run's folder there is only what W&B notes of itself.
    outside = [path for place in (home, scratch) for path in place.rglob("*") if path.is_file()]
    assert {str(path.parent.relative_to(tmp_path)) for path in outside} <= {"home/.cache/wandb/logs"}
    assert not (ROOT / "wandb").exists()
    check_wandb(folder, file)
    check_gallery(folder, file)
    check_run(folder, file)


def check_wandb(folder: RunFolder, file: Path) -> None:
    rows = history(file)
    logged = [
        {
            ("step" if name == "trainer/global_step" else name): value
            for name, value in row.items()
            if name[0] != "_" and not isinstance(value, dict)
        }
        for row in rows
        if "epoch" in row  # else it is the gallery's
    ]
    assert logged == scalars(folder)
    assert {"train/loss", "train/rate", "online/knn_top1"} <= {name for row in logged for name in row}
    recorded = read_rows(folder.scores)[1:]
    assert {name for row in recorded for name, part in row.items() if isinstance(part, dict) and "counts" in part} == {
        *HISTOGRAMS
    }
    for kind, low in HISTOGRAMS.items():
        histograms = {row["trainer/global_step"]: row[f"scores/{kind}"] for row in rows if f"scores/{kind}" in row}
        assert [*histograms] == [1, 2, 3, 4, 5, 6]
        for row in recorded:
            histogram = histograms[row["step"]]
            assert histogram["_type"] == "histogram"
            assert histogram["values"] == row[kind]["counts"]
            assert np.allclose(histogram["bins"], np.linspace(low, 1, len(row[kind]["counts"]) + 1))
        assert summary(file)[f"scores/{kind}"] == histograms[6]
    last = {name: value for row in logged for name, value in row.items() if name not in ("step", "epoch")}
    assert {name: summary(file)[name] for name in last} == last


def check_gallery(folder: RunFolder, file: Path) -> None:
    """Tables, cell by cell, and figures as files."""
    media = {row["trainer/global_step"]: row for row in history(file) if "hardness/by_rank" in row}
    gallery = read_rows(folder.gallery)
    assert [*media] == [row["step"] for row in gallery] == [3, 6]
    for row, (name, pairs) in zip(gallery, (("highest_loss", "highest"), ("bad", "flagged")), strict=True):
        shown = media[row["step"]]
        assert {sheet for sheet in shown if sheet.startswith("pairs/")} == {f"pairs/{name}", "pairs/hardest_negatives"}
        columns, rows = table(file, shown[f"pairs/{name}"])
        numbers = ["index", "label", "class", "path", "loss", "positive", "weight", "flag"]
        assert columns == [*numbers, "view 1", "view 2"]
        assert {cells[7] for cells in rows} <= ({None} if name == "highest_loss" else {"noisy", "faulty"})
        for cells, pair in zip(rows, row[pairs], strict=True):
            assert cells[:8] == [pair.get(name) for name in numbers]
            assert [*map(pixels, cells[8:])] == [pixels(folder.path / name) for name in pair["pictures"]]
        _, rows = table(file, shown["pairs/hardest_negatives"])
        met = [(query, negative) for query in row["queries"] for negative in query["negatives"]]
        for cells, (query, negative) in zip(rows, met, strict=True):
            named, of_pair = ("label", "class", "path"), ("score", "share", "kind")
            of_negative = [*map(negative.get, named), *map(negative.get, of_pair)]
            assert [*cells[1:5], *cells[6:]] == [*map(query.get, named), query["positive"], *of_negative]
            seen = [pixels(folder.path / each["picture"]) for each in (query, negative)]
            assert [pixels(cells[0]), pixels(cells[5])] == seen
        for figure in ("scores/over_training", "hardness/by_rank"):
            assert len(pixels(file.parent / "files" / shown[figure]["path"])) > 600 * 200 * 3


def pixels(path: Path) -> bytes:
    return Image.open(path).convert("RGB").tobytes()


def check_run(folder: RunFolder, file: Path) -> None:
    """Id, name, configuration, the report as an artifact, and the end."""
    (start,), (end,) = of_type(file, "run"), of_type(file, "exit")
    assert json.loads(folder.wandb.read_text()) == {"id": start.run.run_id, "starts": 1}
    assert start.run.display_name == "run"
    assert end.exit.exit_code == 0
    config = {
        item.key: json.loads(item.value_json) for record in of_type(file, "config") for item in record.config.update
    }
    given = yaml.safe_load(folder.config.read_text())
    assert {name: config[name] for name in given} == given
    (report,) = (record.artifact for record in of_type(file, "artifact") if record.artifact.type == "report")
    ((page,),) = ([entry] for entry in report.manifest.contents)
    assert page.path == "report.html"
    assert folder.path in Path(page.local_path).parents
    assert Path(page.local_path).read_text() == build_page(read_runs([folder]))


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    folder = RunFolder(tmp_path / "run")
    overlay = ["--config", "configs/logger/tensorboard.yaml", "--online_knn.every_n_epochs", "1"]
    flushed, flush = [], SummaryWriter.flush
    monkeypatch.setattr(
        SummaryWriter, "flush", lambda self: (flushed.append(read_rows(folder.metrics)[-1]["step"]), flush(self))[1]
    )
    assert pretrain(folder.path, *overlay) == 0
    assert 3 in flushed, "with the checkpoint of the first epoch, and not only at the end"
    events = EventAccumulator(str(folder.path / "tensorboard"), {"scalars": 0, "histograms": 0}).Reload()
    check_pictures(folder, events)
    assert "seed_everything: 0" in (folder.path / "tensorboard/hparams.yaml").read_text()
    rows = scalars(folder)
    for name in {name for row in rows for name in row} - {"step"}:
        expected = [(row["step"], row[name]) for row in rows if name in row]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in expected]
        assert np.allclose([value for _, value in found], [value for _, value in expected])
    recorded = read_rows(folder.scores)[1:]
    for kind, low in HISTOGRAMS.items():
        found = events.Histograms(f"scores/{kind}")
        assert [event.step for event in found] == [row["step"] for row in recorded]
        for event, row in zip(found, recorded, strict=True):
            histogram, own = event.histogram_value, row[kind]
            assert counts(histogram, np.linspace(low, 1, len(own["counts"]) + 1)) == own["counts"]
            assert histogram.num == sum(own["counts"])
            # Of the bins' middles, so right to half a bin.
            half = (1 - low) / len(own["counts"]) / 2
            assert histogram.sum / histogram.num == pytest.approx(own["mean"], abs=half)


class Kill(lightning.Callback):
    """Kills this process without a word after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_and_resumed_run_stands_once_in_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    folder = RunFolder(tmp_path / "run")
    words = [*SMALL, "--config", "configs/logger/tensorboard.yaml", "--trainer.max_epochs", "6"]
    kill = ["--trainer.callbacks", f"[{{class_path: {__name__}.Kill, init_args: {{step: 15}}}}]"]
    often = ["--checkpoints.every_n_epochs", "3", "--pairs.gallery", "6"]
    command = [sys.executable, "-m", "contrast", "pretrain", *words, *often, *kill, "--run", str(folder.path)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [row["step"] for row in read_rows(folder.metrics) if "train/loss" in row][-1] == 14
    assert main(["pretrain", "--resume", str(folder.path), "--trainer.callbacks", "null"]) == 0
    unlimited = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}
    events = EventAccumulator(str(folder.path / "tensorboard"), unlimited).Reload()
    steps = [*range(1, 19)]
    assert [event.step for event in events.Scalars("train/loss")] == steps
    assert [event.step for event in events.Histograms("scores/positive")] == steps
    for name in events.Tags()["scalars"]:
        found = [(event.step, event.value) for event in events.Scalars(name)]
        rows = [(row["step"], row[name]) for row in read_rows(folder.metrics) if name in row]
        assert np.allclose(found, [(0, -1)] if name == "hp_metric" else rows), name
    for name in events.Tags()["images"]:
        found = [event.step for event in events.Images(name)]
        assert found == sorted(set(found)), name


def check_pictures(folder: RunFolder, events: EventAccumulator) -> None:
    gallery = read_rows(folder.gallery)
    figures = ["scores/over_training", "hardness/by_rank"]
    assert {*events.Tags()["images"]} == {"pairs/highest_loss", "pairs/hardest_negatives", *figures}
    for name in events.Tags()["images"]:
        assert [event.step for event in events.Images(name)] == [3, 6]
    for place, row in enumerate(gallery):
        sheets = {sheet.name: sheet for sheet in sheets_of(folder, row)}
        for name, sheet in sheets.items():
            shown = Image.open(io.BytesIO(events.Images(name)[place].encoded_image_string))
            assert shown.convert("RGB").tobytes() == drawn(sheet).tobytes()
        (text,) = events.Tensors("pairs/highest_loss/text_summary")[place].tensor_proto.string_val
        head, _, *lines = text.decode().splitlines()
        assert head == "| index | label | class | path | loss | positive | weight | flag |"
        assert [line.split()[1] for line in lines] == [str(pair["index"]) for pair in row["highest"]]


def counts(histogram: Any, edges: np.ndarray) -> list[int]:
    """Counts by bin; TensorBoard's files leave out empty bins at both ends."""
    found = [0] * (len(edges) - 1)
    for limit, count in zip(histogram.bucket_limit, histogram.bucket, strict=True):
        found[int(np.abs(edges[1:] - limit).argmin())] += int(count)
    return found


def test_other_loggers_get_the_scalars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    folder = RunFolder(tmp_path / "run")
    logger = "{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: '{run}', name: csv, version: ''}}"
    assert pretrain(folder.path, "--trainer.logger", logger) == 0
    with open(folder.path / "csv/metrics.csv", newline="") as file:
        found = {int(row["step"]): float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]}
    assert found == {row["step"]: row["train/loss"] for row in scalars(folder) if "train/loss" in row}
    assert yaml.safe_load((folder.path / "csv/hparams.yaml").read_text()) == yaml.safe_load(folder.config.read_text())
