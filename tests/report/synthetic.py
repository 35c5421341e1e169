"""Run folders as contrastive training writes them, without training: curves and histograms drawn from a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

BINS = 100
EDGES = [round(place, 2) for place in np.linspace(-1, 1, BINS + 1).tolist()]


@dataclass(frozen=True)
class Shape:
    """What a synthetic run looks like.

    Args:
        snapshots: rows of scores.jsonl after its first.
        epochs: planned and done.
        steps_per_epoch: training steps, of which every tenth is logged.
        seed: of the noise.
        method: class name of the model.
        objective: class name of the loss's objective.
        temperature: the loss's.
        positive_end: where the mean positive score settles.
        negative_spread: the negatives' final standard deviation.
        accuracy: where kNN accuracy settles.
        has_negatives: False for methods without.
    """

    snapshots: int = 200
    epochs: int = 100
    steps_per_epoch: int = 200
    seed: int = 0
    method: str = "SimCLR"
    objective: str = "InfoNCE"
    temperature: float = 0.2
    positive_end: float = 0.86
    negative_spread: float = 0.17
    accuracy: float = 0.93
    has_negatives: bool = True


def write_run(path: Path, shape: Shape = Shape()) -> Path:
    """Write every file of a finished run."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config_of(shape), sort_keys=False))
    write_rows(path / "metrics.jsonl", _metrics(shape))
    write_rows(path / "scores.jsonl", _scores(shape))
    (path / "evaluations").mkdir()
    for name, content in _evaluations(shape).items():
        (path / "evaluations" / f"{name}.json").write_text(json.dumps(content))
    return path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def config_of(shape: Shape) -> dict[str, Any]:
    """A resolved configuration in the shape that `contrast pretrain` writes."""
    loss = {
        "class_path": "contrast.losses.ContrastiveLoss",
        "init_args": {
            "objective": {"class_path": f"contrast.losses.{shape.objective}"},
            "temperature": shape.temperature,
            "transforms": [],
            "weighting": None,
        },
    }
    backbone = {"class_path": "contrast.models.ResNet", "init_args": {"depth": 18, "width": 16}}
    train = {"class_path": "contrast.data.Digits", "init_args": {"train": True}}
    data = {"class_path": "contrast.data.ImageData", "init_args": {"train": train, "batch_size": 256}}
    return {
        "seed_everything": shape.seed,
        "model": {
            "class_path": f"contrast.methods.{shape.method}",
            "init_args": {"backbone": backbone, "loss": loss, "rate_scaling": "linear"},
        },
        "data": data,
        "trainer": {"max_epochs": shape.epochs, "precision": "32-true", "devices": 1},
        "online_knn": {"every_n_epochs": 1, "neighbours": 20, "temperature": 0.1},
    }


def _metrics(shape: Shape) -> list[dict[str, Any]]:
    draw = np.random.default_rng(shape.seed)
    total = shape.epochs * shape.steps_per_epoch
    rows = []
    for step in range(0, total, 10):
        done = step / total
        warm, decayed = min(1.0, done / 0.1), 0.5 * (1 + np.cos(np.pi * done))
        loss = 2.6 + 2.9 * np.exp(-step / (0.05 * total)) + 0.8 * (1 - done) ** 2 + draw.normal(0, 0.12)
        rate = 0.6 * (warm if done < 0.1 else decayed)
        row = {"step": step, "epoch": step // shape.steps_per_epoch, "seconds": 3 + 0.031 * step}
        row |= {"train/loss": float(loss), "train/rate": float(rate)}
        rows.append(row | {"train/samples_per_second": float(8200 + draw.normal(0, 90))})
    for epoch in range(shape.epochs):
        accuracy = shape.accuracy - 0.55 * np.exp(-epoch / (0.12 * shape.epochs)) + draw.normal(0, 0.004)
        row = {"step": (epoch + 1) * shape.steps_per_epoch - 1, "epoch": epoch, "online/knn_top1": float(accuracy)}
        rows.append(row)
    return rows


def _scores(shape: Shape) -> list[dict[str, Any]]:
    """A network starts with all scores near 1; negatives fall to 0 at once, positives dip and climb."""
    draw = np.random.default_rng(shape.seed + 1)
    total = shape.epochs * shape.steps_per_epoch
    rows: list[dict[str, Any]] = [{"format": 1, "edges": EDGES}]
    for step in np.linspace(0, total - 1, shape.snapshots).round().astype(int).tolist():
        done = step / total
        collapse = float(np.exp(-done / 0.015))
        climbed = 1 - np.exp(-done / 0.25)
        centre = collapse * 0.95 + (1 - collapse) * (0.62 + (shape.positive_end - 0.62) * climbed)
        positives = 1 - (1 - centre) * draw.gamma(2.2, 1 / 2.2, 4096)
        spread = collapse * 0.05 + (1 - collapse) * (shape.negative_spread + 0.08 * (1 - climbed))
        negatives = collapse * 0.86 + (1 - collapse) * 0.02 + spread * draw.normal(0, 1, 16384)
        same_class = int(0.1 * len(negatives))
        negatives[:same_class] += (1 - collapse) * 0.45 * climbed
        row = {"step": step, "epoch": step // shape.steps_per_epoch, "positive": _side(positives)}
        rows.append(row | {"negative": _side(negatives if shape.has_negatives else negatives[:0])})
    return rows


def _side(scores: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    clamped = np.clip(scores, -1, 1)
    counts = np.histogram(clamped, bins=np.asarray(EDGES))[0].tolist()
    moments = (
        {"mean": float(clamped.mean()), "std": float(clamped.std())} if len(scores) else {"mean": None, "std": None}
    )
    return {"counts": counts, **moments}


def _evaluations(shape: Shape) -> dict[str, Any]:
    probe = {"features": "backbone output", "optimizer": "LBFGS", "weight_decay": 1e-4, "split": "test, 360 images"}
    knn = {"neighbours": 20, "similarity": "cosine", "weights": "exp(s / 0.1)", "split": "test, 360 images"}
    return {
        "probe-all-3f1c22aa01": _evaluation("probe", shape.accuracy + 0.031, probe),
        "knn-all-90be77c1d2": _evaluation("knn", shape.accuracy + 0.004, knn),
    }


def _evaluation(command: str, top1: float, protocol: dict[str, Any]) -> dict[str, Any]:
    interval = [top1 - 0.014, top1 + 0.011]
    created = "2026-03-01T12:00:00+00:00"
    found = {"top1": top1, "top1_interval": interval, "per_seed": [{"seed": 0, "top1": top1}]}
    return {"command": command, "created": created, "epoch": 99, **found, "protocol": protocol}
