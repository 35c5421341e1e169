"""Apply all rules of the doctor to one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from contrast.doctor.data_rules import INPUT_RULES, below_baseline
from contrast.doctor.evidence import SEVERITIES, Evidence, Finding, ReadRows
from contrast.doctor.run_rules import (
    collapse,
    dimensional_collapse,
    duplicates,
    false_negatives,
    labels,
    loss_start,
    no_learning,
    positives_among_negatives,
    queue_filling,
    temperature,
)
from contrast.doctor.training_rules import bad_pairs, damaged_file, failed, inactive, rate_and_batch, shortcut
from contrast.run_folder import RunFolder

__all__ = ["RULES", "Examination", "examine"]

RULES: tuple[Callable[[Evidence], Finding | None], ...] = (
    failed,
    damaged_file,
    *INPUT_RULES,
    inactive,
    loss_start,
    collapse,
    dimensional_collapse,
    no_learning,
    temperature,
    positives_among_negatives,
    false_negatives,
    labels,
    duplicates,
    queue_filling,
    shortcut,
    rate_and_batch,
    bad_pairs,
    below_baseline,
)


_FOLLOWS_FROM_INPUT = {
    *("loss-start", "collapse", "dimensional-collapse", "no-learning", "temperature", "positives-among-negatives"),
    *("false-negatives", "duplicates", "shortcut", "bad-pairs"),
}
"""Rules whose findings may follow from a broken input: copies, constant samples, or pixels of a wrong range."""


@dataclass(frozen=True)
class Examination:
    """Result of examining a run.

    Attributes:
        findings: the findings, the worst first.
        rows: number of observed steps that the rules read.
        progress: share of the run that was done, in [0, 1].
    """

    findings: tuple[Finding, ...]
    rows: int
    progress: float


def examine(folder: RunFolder, progress: float | None = None, rows: ReadRows | None = None) -> Examination:
    """Examine a run folder with every rule.

    A rule whose files or values are missing gives no finding.

    Args:
        folder: the run folder.
        progress: share of the run that is done, in [0, 1]. None computes it from status.json, which may be some
            seconds old.
        rows: rows of scores.jsonl and of metrics.jsonl, if the caller has already read them.

    Returns:
        The findings, with the number of observed steps and the progress.
    """
    run = Evidence.read(folder, progress, rows)
    found = _by_cause([finding for rule in RULES if (finding := rule(run)) is not None])
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Examination(tuple(found), len(run.observed), run.progress)


def _by_cause(found: list[Finding]) -> list[Finding]:
    """Replace the advice of findings that a broken input explains: the input must be fixed first."""
    broken = [each.rule for each in found if each.rule.startswith("input-") and each.severity == "problem"]
    if not broken:
        return found
    advice = f"Fix the input first, because it explains this finding: see {' and '.join(broken)}."
    return [replace(each, fix=advice) if each.rule in _FOLLOWS_FROM_INPUT else each for each in found]
