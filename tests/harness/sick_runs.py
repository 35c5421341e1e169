"""Runs that are really trained into what each rule of the doctor speaks of, and some that are well.

    python -m tests.harness.sick_runs RUNS [NAME...]
    python -m tests.harness.sick_runs RUNS --extracts tests/doctor/runs

The first trains them (twenty seconds each on two cores); the second also writes what the rules read of their records,
thinned, for the tests.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from contrast.records import read_rows
from contrast.run_folder import RunFolder

DEMO = ["--config", "configs/demo.yaml", "--trainer.max_epochs"]
NET = ["--model.backbone", "ConvNet", "--model.backbone.widths", "[32,64,128]"]
SGD = ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr"]
MOCO = ["--model", "MoCo", *NET, *SGD, "0.06", "--model.optimizer.momentum", "0.9"]
HEAD = ["--model.head", "SimCLRHead", "--model.loss", "ContrastiveLoss", "--model.loss.objective", "InfoNCE"]
FORGETFUL = [
    "--model",
    "tests.harness.sick_runs_method.Forgetful",
    *NET,
    *HEAD,
    "--model.loss.temperature",
    "0.2",
    *SGD,
    "0.12",
]
LEARNED = ["--model.loss.temperature", "LearnedTemperature", "--model.loss.temperature.initial", "0.2"]
MINING = ["--model.loss.weighting", "BadPairMining", "--model.loss.weighting.warmup_epochs", "4"]
TINY_BOUNDS = ["--model.loss.weighting.noisy", "0.3", "--model.loss.weighting.faulty", "0.3"]
SAME_VIEWS = ["--data.views.crop_scale", "[1.0,1.0]", "--data.views.jitter_strength", "0", "--data.views.grey", "0"]

OTHER = "configs/compare/{}.yaml"


def _overlay(name: str) -> list[str]:
    return ["--config", OTHER.format(name), *NET]


VICREG = [
    *(word for part in ("method/vicreg", "data/digits", "experiment/digits_vicreg")
      for word in ("--config", f"configs/{part}.yaml")),
    "--trainer.max_epochs", "12", "--scores.every_n_steps", "4",
]  # fmt: skip
HEALTHY: dict[str, tuple[int, list[str]]] = {
    "healthy": (20, []),
    "healthy-moco": (20, [*MOCO, "--model.bank", "KeyQueue", "--model.bank.size", "512"]),
    "healthy-bad-pairs": (20, MINING),
    "healthy-temperature": (20, LEARNED),
    "healthy-duplicates": (20, []),
    "healthy-hardest-negative": (20, ["--model.loss.objective", "HardestNegative"]),
    "healthy-amcl": (20, _overlay("amcl")),
    "healthy-sup-con": (20, _overlay("supcon")),
    "healthy-look": (20, [*_overlay("look"), "--model.bank.size", "512", "--model.batch_norm_groups", "1"]),
    "healthy-vicreg": (12, VICREG),
}
"""Epochs and flags of each: at least one that each rule could be wrong about."""

RUNS: dict[str, tuple[int, list[str]]] = {
    **HEALTHY,
    "failed": (3, ["--model.optimizer.lr", "1e30", "--model.schedule.warmup_epochs", "0"]),
    "collapse": (60, ["--model.loss", "SimSiamLoss", "--model.optimizer.lr", "1.0"]),
    "dimensional-collapse": (28, ["--model.loss", "SimSiamLoss", "--model.optimizer.lr", "0.5"]),
    "dimensional-collapse-byol": (52, _overlay("byol")),
    "no-learning": (20, ["--model.optimizer.lr", "1e-7"]),
    "no-learning-byol": (20, [*_overlay("byol"), "--model.optimizer.lr", "1e-7"]),
    "loss-start": (20, SAME_VIEWS),
    "loss-start-high": (20, ["--model.loss.temperature", "0.005"]),
    "temperature": (20, ["--model.loss.temperature", "5.0"]),
    "temperature-bound": (20, [*LEARNED, "--model.loss.temperature.lowest", "0.15"]),
    "positives-among-negatives": (20, FORGETFUL),
    "false-negatives": (20, ["--data.train", "ArrayImages", "--data.train.path", "{two}", "--data.test", "null"]),
    "duplicates": (20, ["--data.train", "ArrayImages", "--data.train.path", "{twice}"]),
    "labels-of-one-class": (4, ["--data.train", "ArrayImages", "--data.train.path", "{one}", "--data.test", "null",
                               "--data.limit", "null", "--model.loss", "SupCon"]),
    "labels-all-different": (4, ["--data.train", "ArrayImages", "--data.train.path", "{different}", "--data.test",
                                "null", "--data.limit", "null", "--model.loss", "SupCon"]),
    "queue-filling": (10, [*MOCO, "--model.bank", "FaissBank", "--model.bank.size", "20000"]),
    "shortcut": (20, ["--data.train", "ArrayImages", "--data.train.path", "{marked}", "--data.test", "ArrayImages",
                      "--data.test.path", "{marked_test}", "--data.views.crop_scale", "[0.9,1.0]",
                      "--online_knn.every_n_epochs", "1"]),
    "rate-and-batch": (20, ["--model.optimizer.lr", "12"]),
    "bad-pairs": (10, [*MINING, *TINY_BOUNDS]),
    "below-raw-input": (2, []),
}  # fmt: skip
"""Epochs and flags of each; but for the healthy ones, a name is the rule's, or begins with it."""

SCORES = {
    "positive": ("mean",),
    "negative": ("mean",),
    "hardest": ("quantiles",),
    "separation": ("auc",),
    "gradient": ("effective", "negatives"),
    "false_negatives": ("random", "denominator"),
    "temperature": ("value",),
    "embedding": ("uniformity", "rank_me", "std", "width", "rows"),
    "features": ("width",),
}
METRICS = ("step", "epoch", "train/loss", "train/rate", "proxy/accuracy", "online/knn_top1", "bad_pairs/noisy",
           "bad_pairs/faulty", "online/raw_input_knn_top1", "online/majority_class")  # fmt: skip
EVALUATIONS = ("command", "created", "top1", "top1_interval", "baselines")
BASELINES = ("name", "top1", "difference", "difference_interval")


def train(folder: Path, name: str) -> RunFolder:
    """Train one of the runs anew."""
    epochs, flags = RUNS[name]
    sets = {key: str(path) for key, path in _data_sets(folder / "data").items()}
    given = [sets[flag[1:-1]] if flag[:1] == "{" else flag for flag in flags]
    run = RunFolder(folder / name)
    shutil.rmtree(run.path, ignore_errors=True)
    command = [sys.executable, "-m", "contrast"]
    done = subprocess.run([*command, "pretrain", *DEMO, str(epochs), *given, "--run", str(run.path)])
    if done.returncode != (1 if name == "failed" else 0):
        raise SystemExit(f"{name}: training ended with {done.returncode}")
    if name.endswith("duplicates"):
        search = ["duplicates", "--threshold", "0.9999"]  # at 0.999 two digits of one hand may be alike
        subprocess.run([*command, *search, str(run.path)], check=True, stdout=subprocess.DEVNULL)
    if name == "below-raw-input":
        subprocess.run([*command, "knn", "--neighbours", "20", str(run.path)], check=True, stdout=subprocess.DEVNULL)
    return run


def extract(run: RunFolder, to: Path) -> None:
    """What the rules read: the configuration, the first rows and the last, and of them the keys that are asked for."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    shutil.copy(run.config, to / "config.yaml")
    shutil.copy(run.status, to / "status.json")
    rows = read_rows(run.scores)[1:]
    kept = rows if len(rows) <= 8 else [*rows[:2], *rows[-6:]]
    _write(to / "scores.jsonl", [{"step": row["step"], **_part(row)} for row in kept])
    metrics = [{name: row[name] for name in METRICS if name in row} for row in read_rows(run.metrics)]
    _write(to / "metrics.jsonl", [row for row in metrics if len(row) > 2])
    for path in sorted(run.evaluations.glob("*.json")):
        kept = {name: value for name, value in json.loads(path.read_text()).items() if name in EVALUATIONS}
        kept["baselines"] = {
            name: {key: baseline[key] for key in BASELINES} for name, baseline in kept["baselines"].items()
        }
        (to / "evaluations").mkdir(exist_ok=True)
        (to / "evaluations" / path.name).write_text(json.dumps(kept))
    if run.duplicates.exists():
        found = json.loads((run.duplicates / "duplicates.json").read_text())
        within = {**found["within train"], "listed": []}
        (to / "duplicates").mkdir()
        content = {"threshold": found["threshold"], "within train": within}
        (to / "duplicates/duplicates.json").write_text(json.dumps(content))


def _part(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: row[name][key] for key in keys if row[name].get(key) is not None}
        for name, keys in SCORES.items()
        if isinstance(row.get(name), dict)
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))


def _data_sets(folder: Path) -> dict[str, Path]:
    """Digits of two classes, of one, each of its own, digits twice, and digits under a mark of each sample's own."""
    digits = load_digits()
    images, labels = (digits.images / 16 * 255).astype(np.uint8)[..., None], digits.target.astype(np.int64)
    marks = np.random.default_rng(0).uniform(0, 230, images.shape)
    marked, two = np.clip(0.1 * images + marks, 0, 255).astype(np.uint8), np.isin(labels, (3, 8))
    sets = {
        "two": (images[two], labels[two]),
        "one": (images[:700], np.zeros_like(labels[:700])),
        "different": (images[:700], np.arange(700)),
        "twice": (np.concatenate([images[:700]] * 2), np.concatenate([labels[:700]] * 2)),
        "marked": (marked[:1400], labels[:1400]),
        "marked_test": (marked[1400:], labels[1400:]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (samples, of) in sets.items():
        np.savez(folder / f"{name}.npz", images=samples, labels=of)
    return {name: folder / f"{name}.npz" for name in sets}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.sick_runs", allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="RUNS")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--extracts", type=Path, metavar="FOLDER")
    given = parser.parse_args(arguments)
    for name in given.names or RUNS:
        run = train(given.folder, name)
        if given.extracts:
            extract(run, given.extracts / name)


if __name__ == "__main__":
    main(sys.argv[1:])
