"""What the list says of one run, read from its smaller files: configuration, rows of scalars, evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from contrast.dashboard.progress import Reached
from contrast.doctor import best_reference
from contrast.report.evaluated_data import data_in_words
from contrast.report.figures.knn_accuracy import online_references
from contrast.report.numbers import number, percent, points
from contrast.report.run_record import Evaluation, read_config, read_evaluations, rows_by_step
from contrast.report.series import Series, series_of
from contrast.report.settings import run_facts
from contrast.report.sparkline import means, sparkline
from contrast.run_folder import RunFolder

__all__ = ["UNREADABLE", "Accuracy", "Summary", "summarise"]

UNREADABLE = (OSError, RecursionError, OverflowError, ValueError)
"""Of a run that is deleted meanwhile, is not ours to read, or holds what no run writes, as endless nesting."""

UNMEASURED = "no baselines measured"
KINDS = {"probe": "linear probe", "knn": "kNN"}


@dataclass(frozen=True)
class Accuracy:
    """The accuracy by which a run is told.

    Args:
        share: in [0, 1].
        kind: what measured it.
        against: the difference to its best baseline in words, or that none was measured.
        below: whether it is below that baseline.
        beside: another accuracy in words.
        data: what it was measured on, in words.
    """

    share: float
    kind: str
    against: str
    below: bool = False
    beside: str = ""
    data: str = ""

    @property
    def shown(self) -> str:
        return percent(self.share)


@dataclass(frozen=True)
class Summary:
    """All that a row of the list shows but for where the run is.

    Args:
        facts: method, loss, data and so on, as far as its configuration says.
        accuracy: None where there is none yet.
        curve: a small drawing; empty without values.
        curve_label: what is drawn, from where to where.
        reached: what its rows show.
    """

    facts: dict[str, str]
    accuracy: Accuracy | None
    curve: Markup
    curve_label: str
    reached: Reached


def summarise(run: RunFolder) -> Summary:
    """Read a run's files; what is missing or cut is left out.

    Raises:
        UNREADABLE: where it cannot be read.
    """
    config = read_config(run.config, [])
    rows = rows_by_step(run.metrics)
    knn = series_of(rows, "online/knn_top1", x="epoch")
    curve, label = _curve(knn, rows)
    return Summary(
        facts=run_facts(config),
        accuracy=_accuracy(read_evaluations(run.evaluations, []), rows, knn),
        curve=curve,
        curve_label=label,
        reached=_reached(config, rows),
    )


def _accuracy(evaluations: Sequence[Evaluation], rows: Sequence[dict[str, Any]], knn: Series) -> Accuracy | None:
    """The newest linear probe's, else the newest kNN's, else the last while it trained."""
    found = {}
    for command, kind in KINDS.items():
        measured = [each for each in evaluations if each.command == command and each.top1 is not None]
        if measured:
            newest = max(measured, key=lambda each: (each.created, each.top1))
            data = "; ".join(data_in_words(newest.protocol))
            found[command] = Accuracy(newest.top1 or 0.0, kind, *_against(newest), data=data)
    if "probe" in found and "knn" in found:
        return replace(found["probe"], beside=f"kNN {found['knn'].shown}")
    if found:
        return next(iter(found.values()))
    gauged = [value for value in knn.y if value is not None]
    return Accuracy(gauged[-1], "online kNN", *_while_training(gauged[-1], rows)) if gauged else None


def _against(evaluation: Evaluation) -> tuple[str, bool]:
    best = best_reference(list(evaluation.references))
    return (UNMEASURED, False) if best is None else (f"{points(best.difference)} to {best.words}", best.beaten)


def _while_training(share: float, rows: Sequence[dict[str, Any]]) -> tuple[str, bool]:
    found = online_references(rows)
    if not found:
        return UNMEASURED, False
    name, best = max(found.items(), key=lambda each: each[1])
    return f"{points(share - best)} to {name}", share < best


def _curve(knn: Series, rows: Sequence[dict[str, Any]]) -> tuple[Markup, str]:
    gauged = [value for value in knn.y if value is not None]
    if len(gauged) > 1:
        label = f"online kNN {100 * gauged[0]:.0f} → {100 * gauged[-1]:.0f}\N{NO-BREAK SPACE}%"
        return sparkline(means(gauged), label), label
    losses = means([value for value in series_of(rows, "train/loss").y if value is not None])
    if len(losses) < 2:
        return Markup(""), ""
    label = f"loss {losses[0]:.3g} → {losses[-1]:.3g}"
    return sparkline(losses, label), label


def _reached(config: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Reached:
    trainer = config.get("trainer")
    epochs = number(trainer.get("max_epochs")) if isinstance(trainer, dict) else None
    step = int(rows[-1]["step"]) if rows else None
    last = [epoch for row in rows if (epoch := number(row.get("epoch"))) is not None][-1:]
    return Reached(step, int(last[0]) if last else None, int(epochs) if epochs and epochs > 0 else None)
