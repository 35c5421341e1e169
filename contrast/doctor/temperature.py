"""Whether the temperature lets a loss tell its negatives apart, and what it starts at."""

from __future__ import annotations

import math
from typing import Any

from contrast.doctor.embedding import EARLY, POINT
from contrast.doctor.evidence import Evidence
from contrast.doctor.finding import Finding

__all__ = ["loss_start", "temperature"]

ALL, ONE = 0.97, 3.0
"""Effective negatives: a share of all above which none counts more than another, a number below which one decides."""
FEWEST = 32
"""Negatives of a query below which bounds on the loss and on its gradient say nothing."""
ALIKE = 0.99
ABOVE = 1.5


def loss_start(run: Evidence) -> Finding | None:
    """log(K + 1) is what InfoNCE has where all scores are alike."""
    placeholders = run.first("placeholders", "mean") or 0.0  # of a queue's random start, which the loss counts
    count = (run.first("gradient", "negatives") or 0.0) + placeholders
    loss = next(iter(run.scalars("train/loss")), None)
    positive, negative = run.first("positive", "mean"), run.first("negative", "mean")
    if negative is None and placeholders:
        negative = 0.0  # random rows
    tau = run.first("temperature", "value")
    if not count or loss is None or positive is None or negative is None or tau is None:
        return None
    expected = math.log(count + 1)
    said = f"The loss starts at {loss:.2f}; log(K + 1) of {count:,.0f} negatives is {expected:.2f}"
    if positive > ALIKE > negative and loss < expected - 1:
        return Finding(
            "loss-start",
            "problem",
            f"{said}, and the first step's positives already score {positive:.3f}: a query and its positive are "
            "the same.",
            "Look at the views: augmentation is off or too weak, or both views are one picture.",
        )
    if count >= FEWEST and loss > ABOVE * expected and _one_head(run):
        return Finding(
            "loss-start",
            "warning",
            f"{said}: the temperature {tau:g} spreads scores of random weights too far.",
            "Raise the temperature; 0.05 to 0.5 is usual for unit embeddings.",
        )
    return None


def temperature(run: Evidence) -> Finding | None:
    """At a bound, too hot, or too cold."""
    return _at_a_bound(run) or _by_negatives(run)


def _by_negatives(run: Evidence) -> Finding | None:
    effective, count = run.settled("gradient", "effective", "mean"), run.settled("gradient", "negatives")
    started, tau = run.first("gradient", "effective", "mean"), run.settled("temperature", "value")
    if effective is None or not count or count < FEWEST or run.progress < EARLY:
        return None
    if run.class_of("model", "init_args", "loss", "init_args", "objective") == "HardestNegative":
        return None  # one negative decides at any temperature, and is meant to
    said = "" if tau is None else f" at temperature {tau:g}"
    uniformity = run.settled("embedding", "uniformity")
    collapsed = uniformity is not None and uniformity >= POINT  # where all scores are alike at any temperature
    if effective > ALL * count and not collapsed:
        return Finding(
            "temperature",
            "warning",
            f"The gradient falls on {effective:,.0f} of {count:,.0f} negatives alike{said}: hard ones count no "
            "more than easy.",
            "Lower the temperature.",
        )
    coldest = min(effective, effective if started is None else started)
    if coldest < ONE:
        return Finding(
            "temperature",
            "warning",
            f"The gradient falls on {coldest:.1f} of {count:,.0f} negatives{said}: one negative decides, often a "
            "false one.",
            "Raise the temperature.",
        )
    return None


def _at_a_bound(run: Evidence) -> Finding | None:
    given = run.setting("model", "init_args", "loss", "init_args", "temperature", "init_args")
    bounds: dict[str, Any] = given if isinstance(given, dict) else {}
    tau = run.settled("temperature", "value")
    if tau is None or run.progress < EARLY:
        return None
    for name in ("lowest", "highest"):
        bound = bounds.get(name)
        if isinstance(bound, int | float) and abs(tau - bound) <= 0.01 * abs(bound):
            return Finding(
                "temperature",
                "warning",
                f"The learned temperature is at its {name} value: {tau:.3g}.",
                f"Where that is not meant, move the {'lower' if name == 'lowest' else 'upper'} bound.",
            )
    return None


def _one_head(run: Evidence) -> bool:
    head = run.setting("model", "init_args", "head", "class_path")
    return not (isinstance(head, str) and "MultiHead" in head)
