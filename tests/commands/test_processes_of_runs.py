"""A whole run of two processes is the run of one with batches twice as large: weights, bank, metrics and records."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from contrast.records import read_rows
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from tests.commands.running import SMALL

ROOT = Path(__file__).parents[2]
HEAD = "{class_path: MLPHead, init_args: {hidden_width: 16, output_width: 8}}"
RUNS = {
    "SimCLR with DBPM": [
        *("--model.head", HEAD),
        *("--model.loss.weighting", "{class_path: BadPairMining, init_args: {warmup_epochs: 1, noisy: 0.5}}"),
    ],
    # Its weights are relative to the mean over all processes' queries, whoever asks for them.
    "SimCLR with DCLW": ["--model.head", HEAD, "--model.loss.objective", "DCLW"],
    # More than 64 queries a process, of so many of which an approximate search's recall is measured.
    "MoCo with a bank": [
        *("--model", "MoCo", "--model.head", HEAD, "--model.momentum", "0.9", "--bank.every_n_steps", "1"),
        *("--bank.every_n_epochs", "1", "--data.limit", "432"),
        "--model.bank",
        "{class_path: FaissBank, init_args: {size: 432, per_sample: true, mining: {class_path: Hardest, init_args: "
        "{count: 16}}, approximate: {class_path: IVF, init_args: {lists: 8, effort: 2, above: 150, every_n_steps: 2}"
        "}}}",
    ],
}


def run(folder: Path, name: str, processes: int, more: Sequence[str] = ()) -> RunFolder:
    words = [*SMALL, "--model.backbone", "tests.commands.plain.Plain", *RUNS[name], "--trainer.max_epochs", "3"]
    batch = 144 if "--data.limit" in words else 32
    words += ["--data.batch_size", str(batch // processes), "--trainer.devices", str(processes), "--run", str(folder)]
    words += ["--online_knn.every_n_epochs", "1", "--online_knn.neighbours", "5", "--scores.queries", "null", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "contrast", "pretrain", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return RunFolder(folder)


@pytest.mark.parametrize(
    "name", ["MoCo with a bank", *(pytest.param(name, marks=pytest.mark.slow) for name in list(RUNS)[:2])]
)
def test_two_processes_equal_one(name: str, tmp_path: Path) -> None:
    one, two = (run(tmp_path / str(count), name, count) for count in (1, 2))
    first, second = (read_checkpoint(each.last_checkpoint)["state_dict"] for each in (one, two))
    assert first.keys() == second.keys()
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-4, atol=1e-5, msg=key)
    losses = [[row["train/loss"] for row in read_rows(each.metrics) if "train/loss" in row] for each in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    accuracies = [[row.get("online/knn_top1") for row in read_rows(each.metrics)] for each in (one, two)]
    assert accuracies[0] == accuracies[1]
    assert any(accuracies[0])
    for path in sorted(one.pairs.glob("*.safetensors")):
        tensors, others = load_file(path), load_file(two.pairs / path.name)
        for key, value in tensors.items():
            torch.testing.assert_close(others[key], value, rtol=2e-3, atol=1e-3, equal_nan=True, msg=key)  # float16
    means = [[numbers(row) for row in read_rows(each.scores)[1:]] for each in (one, two)]
    assert len(means[0]) == len(means[1]) == 9
    for row, other in zip(*means, strict=True):
        assert row.keys() == other.keys()
        for key, number in row.items():
            assert other[key] == pytest.approx(number, rel=1e-3, abs=1e-4), key
    assert [row.keys() for row in read_rows(one.bank)] == [row.keys() for row in read_rows(two.bank)]
    ages = [[row["ages"] for row in read_rows(each.bank) if "ages" in row] for each in (one, two)]
    assert ages[0] == ages[1]
    recall = [[row["recall"] for row in read_rows(each.bank) if "recall" in row] for each in (one, two)]
    assert recall[0] == recall[1]
    assert bool(recall[0]) == ("bank" in name)
    assert [flagged(each) for each in read_rows(one.flagged)] == [flagged(each) for each in read_rows(two.flagged)]
    assert bool(read_rows(one.flagged)) == ("DBPM" in name)
    assert [drawn(each) for each in read_rows(one.gallery)] == [drawn(each) for each in read_rows(two.gallery)]
    fresh = [[row["freshness"] for row in read_rows(each.bank) if "freshness" in row] for each in (one, two)]
    for row, other in zip(*fresh, strict=True):
        assert row["age"] == other["age"]
        assert other["cosine"] == pytest.approx(row["cosine"], abs=1e-4)


def flagged(row: dict[str, Any]) -> dict[str, Any]:
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in row.items()}


def drawn(row: dict[str, Any]) -> dict[str, Any]:
    """Which samples stand out, and what their pictures are; of queries the first process's are drawn."""
    seen: dict[str, Any] = {"step": row["step"], "epoch": row["epoch"]}
    for kind in ("highest", "lowest", "flagged"):
        seen[kind] = sorted((each["index"], *each["pictures"], each["flag"] or "") for each in row.get(kind, ()))
    return seen


@pytest.mark.gpu
def test_with_synchronised_batch_norm_two_cards_equal_one(tmp_path: Path) -> None:
    """Torch synchronises batch norm on CUDA alone, and one card takes one process."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    norms = ["--model.backbone", "{class_path: ConvNet, init_args: {widths: [4, 8]}}"]
    card = [
        *norms,
        "--trainer.accelerator",
        "gpu",
        "--trainer.sync_batchnorm",
        "true",
        "--trainer.deterministic",
        "true",
    ]
    one, two = (run(tmp_path / str(count), "SimCLR with DBPM", count, card) for count in (1, 2))
    first, second = (read_checkpoint(each.last_checkpoint)["state_dict"] for each in (one, two))
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-3, atol=1e-4, msg=key)


def numbers(row: dict[str, Any], path: str = "") -> dict[str, float]:
    """Means of a row by their paths; counts and quantiles may be one bin apart in float32."""
    found = {}
    for key, value in row.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{path}/{key}")
        elif isinstance(value, float) and key in ("mean", "alignment", "uniformity", "pull", "push", "step"):
            found[f"{path}/{key}"] = value if math.isfinite(value) else 0.0
    return found
