"""Process of one cell of a comparison: pretrain or resume, evaluate, and write ``cell.json``.

`contrast compare` starts it as ``contrast compare --cell SPEC``, with the specification as JSON.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from contrast.commands import pretrain
from contrast.compare.grid import Cell, Evaluation, fingerprint
from contrast.compare.machine import commit, machine
from contrast.errors import InputError
from contrast.records import append_row, read_rows
from contrast.run_folder import RunFolder

if TYPE_CHECKING:
    import torch

    from contrast.data import TrainingData
    from contrast.evaluation import Encoder, Result

__all__ = ["evaluate_encoder", "main", "specification", "training_seconds"]


def specification(cell: Cell, config: Mapping[str, Any], evaluation: Mapping[str, int], jobs: int) -> dict[str, Any]:
    """Specification of a cell for its process, as JSON.

    Args:
        cell: the cell.
        config: its resolved configuration.
        evaluation: the settings of `Evaluation` as a mapping.
        jobs: number of cells that run at a time.
    """
    return {
        "row": cell.row,
        "column": cell.column,
        "seed": cell.seed,
        "folder": str(cell.folder),
        "words": cell.overlay.words(),
        "config": dict(config),
        "evaluate": dict(evaluation),
        "jobs": jobs,
    }


def main(spec: Mapping[str, Any]) -> int:
    """Train and evaluate one cell.

    Args:
        spec: the specification from `specification`.

    Returns:
        Exit code 0 if the cell is finished.

    Raises:
        InputError: if the run or an evaluation refuses its input.
        RunStopped: if training ended before its last step.
    """
    folder, begun_at = RunFolder(Path(spec["folder"])), commit()
    _pretrain(folder, spec)
    from contrast.commands.compare_states import same_configuration
    from contrast.evaluation import write_json

    if not same_configuration(folder.config, spec["config"]):
        raise InputError("the configuration files changed after the grid was started: start again with another --out")
    found = _evaluate(folder, Evaluation(**spec["evaluate"]), spec["config"])
    content = {
        **{name: spec[name] for name in ("row", "column", "seed", "evaluate", "words")},
        "configuration": fingerprint(spec["config"]),
        **found,
        "train_seconds": training_seconds(folder),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": begun_at,
        "machine": {**machine(), "cells_at_a_time": spec["jobs"]},
    }
    write_json(folder.path / "cell.json", content)
    return 0


def _pretrain(folder: RunFolder, spec: Mapping[str, Any]) -> None:
    if folder.last_checkpoint.is_file():
        from contrast.commands.compare_states import needs_trust

        append_row(_resumes(folder), {"rows": len(read_rows(folder.metrics))})
        trust = ["--trust"] if needs_trust(spec["config"]) else []
        pretrain.main(["--resume", str(folder.path), *trust])
        return
    if folder.config.is_file():  # the run ended before its first checkpoint
        shutil.rmtree(folder.path)
    pretrain.main([*spec["words"], "--run", str(folder.path)])


def _resumes(folder: RunFolder) -> Path:
    """File of the number of rows of metrics at each resume."""
    return folder.path / "resumes.jsonl"


def training_seconds(folder: RunFolder) -> float:
    """Sum the seconds of training up to the last logged step over all processes of a run; repeated steps count once.

    A row's seconds count from the start of training in its own process. Steps that a killed process did after its last
    checkpoint are repeated by the next process. So of each process, only the rows before the first step of the next
    process count.

    Args:
        folder: the run folder.
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


def _evaluate(folder: RunFolder, asked: Evaluation, config: Mapping[str, Any]) -> dict[str, Any]:
    from contrast.commands.evaluating import origin
    from contrast.commands.loading import load_run
    from contrast.evaluation import choose_device, write_result

    run = load_run(folder.path, trust=_names_only_classes_of(folder, config))
    if difference := run.changed_data():
        raise InputError(f"the training data changed while the cell was trained ({difference}): start the cell again")
    run.data.setup("test")
    numbers, results, data = evaluate_encoder(
        run.encoder, run.data, folder.features, choose_device("auto"), asked, origin(run)
    )
    for result in results.values():
        write_result(folder.evaluations, result)
    trained_on = None if run.trained_on is None else {**run.trained_on.state(), "name_keys": None}
    splits = [dict(split) for split in results["few_label"].per_seed]
    return {"numbers": numbers, "per_split": splits, "data": data, "trained_on": trained_on}


def _names_only_classes_of(folder: RunFolder, config: Mapping[str, Any]) -> bool:
    """Whether every class in the checkpoint is also in the grid, so that it may be imported.

    The checkpoint of a received folder could name other classes than the folder's ``config.yaml``.
    """
    from contrast.runs.checkpoint import read_checkpoint

    stored = read_checkpoint(folder.last_checkpoint)["contrast"]["config"]
    return _classes(stored) <= _classes(config)


def _classes(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        named = {str(value["class_path"])} if "class_path" in value else set()
        return named.union(*(_classes(each) for each in value.values()))
    if isinstance(value, list | tuple):
        return set().union(*(_classes(each) for each in value))
    return {value} if isinstance(value, str) and "." in value else set()  # a function's name, or a class's


def evaluate_encoder(
    encoder: Encoder,
    data: TrainingData,
    cache: Path,
    device: torch.device,
    asked: Evaluation,
    about: Mapping[str, Any],
) -> tuple[dict[str, float], dict[str, Result], dict[str, Any]]:
    """Evaluate an encoder with the linear probe, the few-label probe and kNN.

    Args:
        encoder: encoder of a cell, or a baseline.
        data: the data module.
        cache: folder of cached features.
        device: device on which everything runs.
        asked: what is measured.
        about: description of the encoder for the results.

    Returns:
        The numbers by name, the results, and the description of the data.
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
    """Each number of a result as its mean over splits; the accuracy has the name of the evaluation itself."""
    names = [name for name, value in result.per_seed[0].items() if name != "seed" and isinstance(value, int | float)]
    values = {name: fmean(split[name] for split in result.per_seed) for name in names}
    return [(kind if name == "top1" else f"{kind}_{name}", value) for name, value in values.items()]
