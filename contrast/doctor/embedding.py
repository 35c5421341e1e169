"""Whether the embedding has collapsed, to a point or to few directions, or has not moved at all."""

from __future__ import annotations

import math

from contrast.doctor.evidence import Evidence
from contrast.doctor.finding import Finding
from contrast.doctor.rates import rate_of_256, usual_rates

__all__ = ["POINT", "collapse", "dimensional_collapse", "no_learning"]

POINT = -0.4
"""Uniformity above which embeddings are near one point; of random ones on a sphere it is near -4."""
FEW = 0.12
"""Share of its dimensions that an embedding uses at least; healthy runs of digits use 0.23 to 0.76 of theirs."""
WORSE = 0.02
"""How far below random weights' kNN must be; two standard errors of a difference on a few hundred test samples."""
EARLY, HALF = 0.25, 0.5  # a momentum encoder starts near one point, and leaves it
MOVED, SPREAD = 0.05, 0.25


def collapse(run: Evidence) -> Finding | None:
    """All embeddings near one point."""
    uniformity = run.settled("embedding", "uniformity")
    if uniformity is None or uniformity < POINT or run.progress < EARLY:
        return None
    std, width = run.settled("embedding", "std", "3"), run.settled("embedding", "width")
    beside = ""
    if std is not None and width:
        beside = f"; dimensions deviate by {std:.2g}, where spread ones have {1 / math.sqrt(width):.2g}"
    return Finding(
        "collapse",
        "problem",
        f"Embeddings are near one point: uniformity {uniformity:.2f}, where 0 is a point and −4 a sphere{beside}.",
        "Lower the learning rate or raise the temperature; a loss without negatives needs its predictor and "
        "stop-gradient.",
    )


def dimensional_collapse(run: Evidence) -> Finding | None:
    """Spread, but in few of the directions that are possible; or spread as far as a narrow backbone allows."""
    rank, width, rows = run.settled("embedding", "rank_me"), run.settled("embedding", "width"), _rows(run)
    uniformity = run.settled("embedding", "uniformity")
    if rank is None or not width or not rows or uniformity is None or run.progress < EARLY:
        return None
    features = run.settled("features", "width") or width
    if uniformity >= POINT or rank >= FEW * min(width, rows):
        return None
    if rank >= FEW * min(width, rows, features):
        return Finding(
            "narrow-features",
            "warning",
            f"Embeddings use {rank:.1f} of {width:.0f} directions (RankMe): the backbone gives the head only "
            f"{features:.0f} features.",
            "Take a wider backbone, or a head whose output is as narrow as the features.",
        )
    limit = f" that {rows:.0f} rows can use" if rows < width else ""
    return Finding(
        "dimensional-collapse",
        "problem",
        f"Embeddings use {rank:.1f} of {min(width, rows):.0f} directions{limit} (RankMe).",
        "Lower the learning rate, weaken the augmentation, or take a loss with negatives or with a variance term.",
    )


def _rows(run: Evidence) -> float | None:
    """Rows that RankMe was computed from, or the width if that is smaller; None for rows that do not tell."""
    rows = run.settled("embedding", "rows")
    return rows if rows is not None else run.settled("embedding", "spectrum", "place", "-1")


def _moved(run: Evidence, *path: str) -> float | None:
    before, after = run.first(*path), run.settled(*path)
    return None if before is None or after is None else abs(after - before)


def no_learning(run: Evidence) -> Finding | None:
    """Scores stand where random weights had them, or features are no better than theirs."""
    return _unmoved(run) or _no_better(run)


def _unmoved(run: Evidence) -> Finding | None:
    if run.progress < HALF or len(run.observed) < 4:
        return None
    before, after = run.first("positive", "mean"), run.settled("positive", "mean")
    spread = _moved(run, "embedding", "uniformity")
    if before is None or after is None or abs(after - before) >= MOVED or spread is None or spread >= SPREAD:
        return None
    negatives = _moved(run, "negative", "mean")  # which not every loss has
    if negatives is not None and negatives >= MOVED:
        return None
    knn = run.scalars("online/knn_top1")
    told = len(knn) > 1 and knn[0] < 1  # from 100 %, as of a test set of one class, nothing can be gained
    beside = f"; kNN went from {100 * knn[0]:.1f} % to {100 * knn[-1]:.1f} %" if told else ""
    return Finding(
        "no-learning",
        "problem",
        f"Embeddings are as random weights made them: mean positive score {before:.2f} at the start, {after:.2f} "
        f"now{beside}.",
        _how_to_move(run),
    )


def _how_to_move(run: Evidence) -> str:
    """The learning rate only where it is shown to be low."""
    low, rate, peak = usual_rates(run)[0], rate_of_256(run), max(run.scalars("train/rate"), default=None)
    if peak == 0 or (peak is not None and rate is not None and rate < low):
        return f"Raise the learning rate, which peaks at {peak:.3g}."
    return (
        "Check that the views of a sample differ and that the optimiser has the encoder's weights; if both are well, "
        "train longer or try a higher learning rate."
    )


def _no_better(run: Evidence) -> Finding | None:
    now, before = run.scalars("online/knn_top1")[-1:], run.of_random_weights("online/knn_top1")
    gain = run.summarised("few_label_gain_over_random_init", "0")
    if gain is not None:  # of the demo: five choices of labels, the same for both
        than = f"is {-100 * gain:.1f} points below" if gain < 0 else f"gains {100 * gain:.1f} points over"
        seen, worse = f"a probe on few labels {than} them", gain <= 0
    elif now and before is not None and run.progress >= HALF:
        seen, worse = f"kNN is {100 * now[0]:.1f} %, and was {100 * before:.1f} % of them", now[0] <= before - WORSE
    else:
        return None
    if not worse:
        return None
    return Finding(
        "no-learning",
        "warning",
        f"Features are no better than those of random weights: {seen}.",
        "Look at the other findings, at the views, and at whether the loss asks for what the test set is about.",
    )
