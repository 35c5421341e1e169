"""Everything that a report needs of one run folder."""

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
FORCES = ("pull", "push")
OF_NEGATIVES = (
    "negative", "hardest", "own", "mined", "pair_mix", "query_mix", "synthetic", "same_class", "separation", "hardness",
    "false_negatives", "gradient", "coupling",
)  # fmt: skip
USUAL_SIZE = 65_536
"""Keys of MoCo's queue where a configuration names none."""


def without_queue_start(
    rows: Sequence[dict[str, Any]], config: dict[str, Any]
) -> tuple[list[dict[str, Any]], int | None]:
    """Rows without what they say of random rows that a queue starts with, and the last step that met any.

    Rows since `placeholders` was recorded have their negatives without them; the coupling, pull and push of such a row
    are those of the loss, which has them, and are left out. Of rows from before, it follows from the configuration how
    long the queue took to fill; they lose all that they say of negatives until then.

    Args:
        rows: of scores.jsonl, in order of step.
        config: of the run.
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
    """The last step that meets random rows; 0 where the configuration names no queue or no batch size."""
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
    """One file of evaluations/: an accuracy as a share in [0, 1], its baselines and the protocol of its measurement."""

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
    """Everything that a report shows of one run.

    Args:
        name: the folder's name, made unique among the runs of one page.
        folder: the folder, as it was given.
        config: the resolved configuration as of now.
        history: the settings that changed while it trained, in order of step.
        metrics: one row a logged step, in order of step.
        edges: the bin edges of the score histograms, empty where there are none.
        header: the first row of scores.jsonl, which says how to read the others.
        observed: rows of scores.jsonl in order of step, as they are: figures take of them what they
            understand. What they say of random rows that a queue starts with is left out.
        bank: rows of bank.jsonl, likewise.
        gallery: pairs to look at, of the last epoch that has any; None where there are none.
        samples: every training sample's moments over epochs; None where there are none.
        path: the folder, where pictures are.
        snapshots: the score histograms in order of step.
        evaluations: in order of file name.
        summary: flat numbers of summary.json.
        findings: what the doctor says.
        notes: one sentence for each file that is missing or could not be read.
        input: input.json, statistics of raw samples; empty where there are none.
        never_active: names of the classes that never act in a run of this length.
        queue_start: the last observed step whose queue still held random rows; None where there is none.
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
        """What a figure of negatives says of a queue's random start; nothing where there is none."""
        if self.queue_start is None:
            return ()
        return (
            f"{self.name}: up to step {self.queue_start:,} its queue held random rows that are no sample's embedding; "
            "they are left out.",
        )

    @classmethod
    def read(cls, folder: RunFolder, name: str) -> RunRecord:
        """Read a run folder; what is missing or cut becomes a note, never an error."""
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
    """The configuration; an empty one, and a note, where the file is no readable mapping."""
    config, why = read_mapping(path)
    if not config:
        notes.append(f"config.yaml is empty or no readable YAML mapping ({why}): settings are not shown.")
    return config


def rows_by_step(path: Path) -> list[dict[str, Any]]:
    """One row a step; a key that was written twice for a step, as by a resumed run, keeps its later value."""
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
            f"{path.name} is large: {len(rows):,} of its {count:,} rows were read, evenly spread, the first and the "
            "last among them."
        )
    return rows


def read_evaluations(path: Path, notes: list[str]) -> list[Evaluation]:
    """Every evaluation of the folder, in order of file name; a note for each file that is none."""
    found = []
    for file in sorted(path.glob("*.json")):
        content = read_object(file)
        if content is None:
            notes.append(f"evaluations/{file.name} is no whole JSON object: left out.")
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
    if not path.exists():  # only the demo writes one: its absence is no news
        return {}
    content = read_object(path)
    if content is None:
        notes.append("summary.json is no whole JSON object: left out.")
        return {}
    return content
