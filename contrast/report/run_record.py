"""Read a run folder for the report: configuration, metrics, scores, evaluations and findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrast.doctor import Finding, Reference, examine, references, samples_per_step
from contrast.records import (
    MOST_BYTES,
    MOST_METRICS,
    last_row_per_step,
    read_mapping,
    read_object,
    read_rows,
    read_some_rows,
)
from contrast.report.numbers import is_number, number
from contrast.report.samples import Gallery, Samples, Snapshot, read_gallery, read_samples, read_snapshots
from contrast.run_folder import RunFolder
from contrast.runs.history import Change, read_history

__all__ = ["Evaluation", "RunRecord", "read_config", "read_evaluations", "rows_by_step", "without_queue_start"]

OF_THE_LOSS = ("coupling",)
"""Keys of a row that the loss defines, and which therefore count random rows of a queue."""
FORCES = ("pull", "push")
"""Keys of a row's `gradient` that count random rows of a queue."""
OF_NEGATIVES = (
    "negative", "hardest", "own", "mined", "pair_mix", "query_mix", "synthetic", "same_class", "separation", "hardness",
    "false_negatives", "gradient", "coupling",
)  # fmt: skip
"""Keys of a row that are statistics of negatives."""
USUAL_SIZE = 65_536
"""Default size of MoCo's key queue, in keys, for a configuration that does not name it."""


def without_queue_start(
    rows: Sequence[dict[str, Any]], config: dict[str, Any]
) -> tuple[list[dict[str, Any]], int | None]:
    """Remove the statistics that count the random rows which a key queue starts with.

    Newer rows record `placeholders`, the number of random rows. Their statistics of negatives already exclude the
    random rows; only the coupling, pull and push include them, because the loss does, and only these are removed.
    Older rows do not record `placeholders`. There the configuration tells at which step the queue was full, and all
    statistics of negatives up to that step are removed.

    Args:
        rows: rows of scores.jsonl, in order of step.
        config: the configuration of the run.

    Returns:
        The cleaned rows, and the last step whose queue held random rows. None where no step did.
    """
    marked = [row for row in rows if _placeholders(row)]
    if marked:
        kept = [_without_forces(row) if _placeholders(row) else row for row in rows]
        return kept, int(marked[-1]["step"])
    until = _filled_after(config)
    if not until:
        return list(rows), None
    old = [row for row in rows if row["step"] <= until and "negative" in row]
    kept = [_without_negatives(row) if row["step"] <= until else row for row in rows]
    return kept, int(old[-1]["step"]) if old else None


def _placeholders(row: dict[str, Any]) -> bool:
    """Whether the queue still held random rows at this step."""
    said = row.get("placeholders")
    return isinstance(said, dict) and (number(said.get("mean")) or 0.0) > 0


def _without_forces(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: part for name, part in row.items() if name not in OF_THE_LOSS}
    gradient = kept.get("gradient")
    if isinstance(gradient, dict):
        kept["gradient"] = {name: value for name, value in gradient.items() if name not in FORCES}
    return kept


def _without_negatives(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: part for name, part in row.items() if name not in OF_NEGATIVES}
    embedding = kept.get("embedding")
    if isinstance(embedding, dict):
        kept["embedding"] = {name: value for name, value in embedding.items() if name != "margin"}
    return kept


def _filled_after(config: dict[str, Any]) -> int:
    """Last step whose key queue holds random rows; 0 where the configuration has no queue or no batch size."""
    model = config.get("model")
    arguments = model.get("init_args") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(arguments, dict) or _class_of(model) != "MoCo":
        return 0
    bank = arguments.get("bank")
    given = bank.get("init_args") if isinstance(bank, dict) else None
    size = given.get("size", USUAL_SIZE) if isinstance(given, dict) else USUAL_SIZE
    together = samples_per_step(config)
    if _class_of(bank) not in ("KeyQueue", "") or not together or not isinstance(size, int):
        return 0
    return -(-size // together)


def _class_of(node: Any) -> str:
    path = node.get("class_path") if isinstance(node, dict) else node
    return path.rpartition(".")[2] if isinstance(path, str) else ""


@dataclass(frozen=True)
class Evaluation:
    """Result of one evaluation: one file of ``evaluations/``.

    Attributes:
        name: file name without its ending.
        command: the command that measured it, for example "probe" or "knn".
        top1: top-1 accuracy as a share in [0, 1]. None where it is missing.
        interval: ends of the confidence interval of `top1`, as shares. None where it is missing.
        created: time of the evaluation, as written in the file.
        protocol: how the accuracy was measured.
        others: all other keys of the file.
        balanced: balanced accuracy as a share. None where it is missing.
        references: the baselines that were measured with it.
        remarks: the notes of the file.
    """

    name: str
    command: str
    top1: float | None
    interval: tuple[float, float] | None
    created: str
    protocol: dict[str, Any]
    others: dict[str, Any]
    balanced: float | None = None
    references: tuple[Reference, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """Everything that the report shows of one run.

    Attributes:
        name: the folder's name, made unique among the runs of one page.
        folder: the path of the folder, as it was given.
        config: the resolved configuration at the time of reading.
        history: settings that changed while the run trained, in order of step.
        metrics: rows of metrics.jsonl, one per logged step, in order of step.
        edges: bin edges of the score histograms. Empty where there are none.
        header: the first row of scores.jsonl, which says how to read the other rows.
        observed: rows of scores.jsonl in order of step. Each figure takes the keys that it knows. Statistics that
            count the random rows of a queue's start are removed.
        bank: rows of bank.jsonl.
        gallery: pairs and queries of the newest recorded epoch. None where there are none.
        samples: moments over epochs of every training sample. None where there are none.
        path: the folder, from which pictures are read.
        snapshots: score histograms in order of step.
        evaluations: evaluation results in order of file name.
        summary: content of summary.json.
        findings: findings of the doctor.
        notes: one sentence for each file that is missing or cannot be read.
        input: content of input.json: statistics of raw samples. Empty where there is none.
        never_active: names of the classes that never act in a run of this length.
        queue_start: the last observed step whose key queue still held random rows. None where there is none.
    """

    name: str
    folder: str
    config: dict[str, Any]
    history: list[Change]
    metrics: list[dict[str, Any]]
    edges: list[float]
    header: dict[str, Any]
    observed: list[dict[str, Any]]
    bank: list[dict[str, Any]]
    gallery: Gallery | None
    samples: Samples | None
    path: Path
    snapshots: list[Snapshot]
    evaluations: list[Evaluation]
    summary: dict[str, Any]
    findings: tuple[Finding, ...]
    notes: list[str]
    input: dict[str, Any] = field(default_factory=dict)
    never_active: frozenset[str] = frozenset()
    queue_start: int | None = None

    @property
    def start_notes(self) -> tuple[str, ...]:
        """Notes of a figure about negatives on the random rows of a queue's start; empty where there are none."""
        if self.queue_start is None:
            return ()
        return (
            f"{self.name}: up to step {self.queue_start:,} its queue held random rows, which are not embeddings; "
            "figures leave them out.",
        )

    @classmethod
    def read(cls, folder: RunFolder, name: str) -> RunRecord:
        """Read a run folder; a missing or damaged file becomes a note, never an error.

        Args:
            folder: the run folder.
            name: name of the run on the page.
        """
        notes: list[str] = []
        rows = _some(folder.scores, notes)
        metrics = _by_step(_some(folder.metrics, notes, MOST_METRICS))
        if not metrics:
            notes.append("metrics.jsonl has no rows yet: no curves.")
        config = read_config(folder.config, notes)
        recorded = last_row_per_step([row for row in rows if is_number(row.get("step"))])
        observed, start = without_queue_start(recorded, config)
        edges, snapshots = read_snapshots([*(row for row in rows if "edges" in row), *observed], notes)
        return cls(
            name=name,
            folder=str(folder.path),
            config=config,
            history=read_history(folder.history),
            metrics=metrics,
            edges=edges,
            header=next((row for row in rows if "edges" in row), {}),
            observed=observed,
            bank=[row for row in _some(folder.bank, notes) if is_number(row.get("step"))],
            gallery=read_gallery(folder),
            samples=read_samples(folder),
            path=folder.path,
            snapshots=snapshots,
            evaluations=read_evaluations(folder.evaluations, notes),
            summary=_summary(folder.summary, notes),
            findings=examine(folder, rows=(recorded, metrics)).findings,
            notes=notes,
            input=read_object(folder.input) or {},
            never_active=_never_active(folder.inactive),
            queue_start=start,
        )


def _never_active(path: Path) -> frozenset[str]:
    pieces = (read_object(path) or {}).get("pieces")
    found = [each.get("piece") for each in pieces if isinstance(each, dict)] if isinstance(pieces, list) else []
    return frozenset(name for name in found if isinstance(name, str))


def read_config(path: Path, notes: list[str]) -> dict[str, Any]:
    """Read the configuration of a run.

    Args:
        path: the file config.yaml.
        notes: receives a note where the file is not a readable mapping.

    Returns:
        The configuration; empty where the file is not a readable mapping.
    """
    config, why = read_mapping(path)
    if not config:
        notes.append(f"config.yaml is empty or not a readable YAML mapping ({why}): settings are not shown.")
    return config


def rows_by_step(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file and merge them into one row per step, in order of step.

    A key that was written twice for a step, for example by a resumed run, keeps its later value.
    """
    return _by_step(read_rows(path))


def _by_step(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    by_step: dict[int, dict[str, Any]] = {}
    for row in rows:
        step: Any = row.get("step")
        if is_number(step) and by_step.setdefault(step, row) is not row:
            by_step[step].update(row)
    return [by_step[step] for step in sorted(by_step)]


def _some(path: Path, notes: list[str], most_bytes: int = MOST_BYTES) -> list[dict[str, Any]]:
    rows, count = read_some_rows(path, most_bytes)
    if len(rows) < count:
        notes.append(
            f"{path.name} is large: {len(rows):,} of its {count:,} rows were read, evenly spread and with the first "
            "and the last row."
        )
    return rows


def read_evaluations(path: Path, notes: list[str]) -> list[Evaluation]:
    """Read every evaluation of a folder.

    Args:
        path: the folder ``evaluations/`` of a run.
        notes: receives a note for each file that is not a complete JSON object, and where there are no evaluations.

    Returns:
        The evaluations in order of file name.
    """
    found = []
    for file in sorted(path.glob("*.json")):
        content = read_object(file)
        if content is None:
            notes.append(f"evaluations/{file.name} is not a complete JSON object: not shown.")
        else:
            found.append(_evaluation(file.stem, content))
    if not found:
        notes.append("No evaluations yet: contrast probe and contrast knn write them.")
    return found


def _evaluation(name: str, content: dict[str, Any]) -> Evaluation:
    protocol = content.get("protocol")
    shown = ("protocol", "top1", "top1_interval", "command", "created", "balanced_accuracy", "baselines", "notes")
    remarks = content.get("notes")
    return Evaluation(
        name=name,
        command=str(content.get("command") or ""),
        top1=number(content.get("top1")),
        interval=_interval(content.get("top1_interval")),
        created=str(content.get("created") or ""),
        protocol=protocol if isinstance(protocol, dict) else {},
        others={key: value for key, value in content.items() if key not in shown},
        balanced=number(content.get("balanced_accuracy")),
        references=tuple(references(content)),
        remarks=tuple(map(str, remarks)) if isinstance(remarks, list) else (),
    )


def _interval(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2 or not all(map(is_number, value)):
        return None
    return float(value[0]), float(value[1])


def _summary(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.exists():  # only the demo writes this file, so its absence needs no note
        return {}
    content = read_object(path)
    if content is None:
        notes.append("summary.json is not a complete JSON object: not shown.")
        return {}
    return content
