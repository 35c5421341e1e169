"""What a queue's random start leaves in observed rows, and the rows without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contrast.doctor import samples_per_step
from contrast.report.numbers import number

__all__ = ["without_queue_start"]

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
