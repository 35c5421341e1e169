"""One cell in a process of its own: pretrain, or go on pretraining, then evaluate, then write ``cell.json``.

python -m tools.compare.cell SPEC     SPEC is JSON, as `tools.compare.schedule` writes it
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from contrast import cli
from contrast.commands.configuration import read_yaml
from contrast.records import append_row, read_rows
from contrast.run_folder import RunFolder
from tools.compare.grid import Evaluation, fingerprint
from tools.compare.machine import commit, machine

if TYPE_CHECKING:
    import torch

    from contrast.data import TrainingData
    from contrast.evaluation import Encoder, Result

__all__ = ["evaluate_encoder", "main", "training_seconds"]


def main(spec: Mapping[str, Any]) -> int:
    """Bring one cell to its end; the exit code of what stopped it, else 0."""
    folder, begun_at = RunFolder(Path(spec["folder"])), commit()
    code = _pretrain(folder, spec["words"])
    if code:
        return code
    if fingerprint(read_yaml(folder.config)) != spec["configuration"]:
        print("its configuration files changed after the grid was started: start again, with another folder")
        return 1
    from contrast.evaluation import write_json

    content = {
        **{name: spec[name] for name in ("row", "column", "seed", "configuration", "evaluate", "words")},
        **_evaluate(folder, Evaluation(**spec["evaluate"])),
        "train_seconds": training_seconds(folder),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": begun_at,
        "machine": {**machine(), "cells_at_a_time": spec["jobs"]},
    }
    write_json(folder.path / "cell.json", content)
    return 0


def _pretrain(folder: RunFolder, words: list[str]) -> int:
    if folder.last_checkpoint.is_file():
        append_row(_resumes(folder), {"rows": len(read_rows(folder.metrics))})
        return cli.main(["pretrain", "--resume", str(folder.path), "--trust"])
    if folder.config.is_file():  # ended before its first checkpoint
        shutil.rmtree(folder.path)
    return cli.main(["pretrain", *words, "--run", str(folder.path)])


def _resumes(folder: RunFolder) -> Path:
    """How many rows of metrics there were at each resumption."""
    return folder.path / "resumes.jsonl"


def training_seconds(folder: RunFolder) -> float:
    """Seconds of training up to the last logged step, over all processes; steps done twice count once.

    A row's seconds count from its own process's start of training. What a killed process did beyond the checkpoint is
    done again by the next one, so of each process the rows below the next one's first step count.
    """
    rows = read_rows(folder.metrics)
    starts = [0, *(row["rows"] for row in read_rows(_resumes(folder))), len(rows)]
    total, limit = 0.0, math.inf
    for first, end in reversed(list(pairwise(starts))):
        kept = [row for row in rows[first:end] if "seconds" in row and row["step"] < limit]
        if kept:
            total += max(row["seconds"] for row in kept)
            limit = min(row["step"] for row in kept)
    return round(total, 3)


def _evaluate(folder: RunFolder, asked: Evaluation) -> dict[str, Any]:
    from contrast.commands.evaluating import told
    from contrast.commands.loading import load_run
    from contrast.evaluation import choose_device, write_result

    run = load_run(folder.path, trust=True)
    run.data.setup("test")
    numbers, results, data = evaluate_encoder(
        run.encoder, run.data, folder.features, choose_device("auto"), asked, told(run)
    )
    for result in results.values():
        write_result(folder.evaluations, result)
    return {"numbers": numbers, "per_split": [dict(split) for split in results["few_label"].per_seed], "data": data}


def evaluate_encoder(
    encoder: Encoder,
    data: TrainingData,
    cache: Path,
    device: torch.device,
    asked: Evaluation,
    about: Mapping[str, Any],
) -> tuple[dict[str, float], dict[str, Result], dict[str, Any]]:
    """An encoder's numbers by their names, the results they are from, and what the data are.

    Args:
        encoder: of a cell, or a baseline.
        data: the data module.
        cache: folder of cached features.
        device: where everything runs.
        asked: what is measured.
        about: goes into the results.
    """
    from contrast.evaluation import evaluate_knn, evaluate_probe

    splits = range(asked.splits)
    results = {
        "linear": evaluate_probe(encoder, data, cache, device, [0], fraction=1.0, told=about),
        "few_label": evaluate_probe(encoder, data, cache, device, splits, per_class=asked.per_class, told=about),
        "knn": evaluate_knn(encoder, data, cache, device, asked.neighbours, told=about),
    }
    numbers = {name: value for kind, result in results.items() for name, value in _numbers(kind, result)}
    return numbers, results, results["linear"].protocol["data"]


def _numbers(kind: str, result: Result) -> list[tuple[str, float]]:
    """Each number of a result as its mean over splits: the accuracy under the kind's own name."""
    names = [name for name, value in result.per_seed[0].items() if name != "seed" and isinstance(value, int | float)]
    values = {name: fmean(split[name] for split in result.per_seed) for name in names}
    return [(kind if name == "top1" else f"{kind}_{name}", value) for name, value in values.items()]


if __name__ == "__main__":
    # Python leaves Ctrl-C ignored where the shell that started it did.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise SystemExit(main(json.loads(sys.argv[1])))
