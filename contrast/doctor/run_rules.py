"""Rules of the doctor on scores and embeddings: collapse, learning, negatives, duplicates, loss start, temperature."""

from __future__ import annotations

import math
from typing import Any

from contrast.doctor.evidence import Evidence, Finding
from contrast.doctor.rates import rate_of_256, usual_rates

__all__ = [
    "POINT",
    "collapse",
    "dimensional_collapse",
    "duplicates",
    "false_negatives",
    "labels",
    "loss_start",
    "no_learning",
    "positives_among_negatives",
    "queue_filling",
    "temperature",
]

POINT = -0.4
"""Uniformity above which embeddings are near one point. For random points on a sphere it is near -4."""
FEW = 0.12
"""Smallest share of its dimensions that a healthy embedding uses; healthy runs on digits use 0.23 to 0.76."""
WORSE = 0.02
"""Decrease of kNN accuracy below random weights that is reported: two standard errors on a few hundred test samples."""
EARLY, HALF = 0.25, 0.5  # shares of a run; in its first quarter, a momentum encoder may still be near one point
MOVED, SPREAD = 0.05, 0.25
"""Changes of a mean score and of the uniformity, below which the embeddings count as unchanged."""


def collapse(run: Evidence) -> Finding | None:
    """Rule: collapse, that is, all embeddings near one point."""
    uniformity = run.settled("embedding", "uniformity")
    if uniformity is None or uniformity < POINT or run.progress < EARLY:
        return None
    std, width = run.settled("embedding", "std", "3"), run.settled("embedding", "width")
    beside = ""
    if std is not None and width:
        beside = (
            f"; the dimensions' standard deviation is {std:.2g}, and spread embeddings have {1 / math.sqrt(width):.2g}"
        )
    return Finding(
        "collapse",
        "problem",
        f"Embeddings are near one point: uniformity {uniformity:.2f} (0: one point, −4: a full sphere){beside}.",
        "Lower the learning rate or raise the temperature; a loss without negatives needs its predictor and "
        "stop-gradient.",
    )


def dimensional_collapse(run: Evidence) -> Finding | None:
    """Rule: dimensional collapse, that is, embeddings that are spread but use few of their dimensions.

    If a narrow backbone is the cause, the finding is "narrow-features" instead.
    """
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
            "Use a wider backbone, or a head whose output is as narrow as the features.",
        )
    limit = f" that {rows:.0f} rows can span" if rows < width else ""
    return Finding(
        "dimensional-collapse",
        "problem",
        f"Embeddings use {rank:.1f} of {min(width, rows):.0f} directions{limit} (RankMe).",
        "Lower the learning rate, weaken the augmentation, or use a loss with negatives or with a variance term.",
    )


def _rows(run: Evidence) -> float | None:
    """Number of rows that RankMe was computed from, or the width if smaller; None where it was not recorded."""
    rows = run.settled("embedding", "rows")
    return rows if rows is not None else run.settled("embedding", "spectrum", "place", "-1")


def _moved(run: Evidence, *path: str) -> float | None:
    """Absolute change of a recorded number from the first row to the end; None where it is missing."""
    before, after = run.first(*path), run.settled(*path)
    return None if before is None or after is None else abs(after - before)


def no_learning(run: Evidence) -> Finding | None:
    """Rule: nothing learned, that is, scores as with random weights, or features no better than theirs."""
    return _unmoved(run) or _no_better(run)


def _unmoved(run: Evidence) -> Finding | None:
    """Scores and uniformity as at the start."""
    if run.progress < HALF or len(run.observed) < 4:
        return None
    before, after = run.first("positive", "mean"), run.settled("positive", "mean")
    spread = _moved(run, "embedding", "uniformity")
    if before is None or after is None or abs(after - before) >= MOVED or spread is None or spread >= SPREAD:
        return None
    negatives = _moved(run, "negative", "mean")  # None for a loss without negatives
    if negatives is not None and negatives >= MOVED:
        return None
    knn = run.scalars("online/knn_top1")
    can_improve = len(knn) > 1 and knn[0] < 1  # 100 % cannot improve, for example on a test set of one class
    beside = f"; kNN went from {100 * knn[0]:.1f} % to {100 * knn[-1]:.1f} %" if can_improve else ""
    return Finding(
        "no-learning",
        "problem",
        f"Embeddings have not changed since the random weights: mean positive score {before:.2f} at the start, "
        f"{after:.2f} now{beside}.",
        _how_to_move(run),
    )


def _how_to_move(run: Evidence) -> str:
    """Advice for a run that learns nothing: raise the learning rate only if it is shown to be low."""
    low, rate, peak = usual_rates(run)[0], rate_of_256(run), max(run.scalars("train/rate"), default=None)
    if peak == 0 or (peak is not None and rate is not None and rate < low):
        return f"Raise the learning rate; its peak is {peak:.3g}."
    return (
        "Check that the views of a sample differ and that the optimiser has the encoder's weights; if both are so, "
        "train longer or try a higher learning rate."
    )


def _no_better(run: Evidence) -> Finding | None:
    """Features no better than those of random weights."""
    now, before = run.scalars("online/knn_top1")[-1:], run.of_random_weights("online/knn_top1")
    gain = run.summarised("few_label_gain_over_random_init", "0")
    if gain is not None:  # the demo: five label choices, the same for both encoders
        than = f"is {-100 * gain:.1f} points below" if gain < 0 else f"is {100 * gain:.1f} points above"
        seen, worse = f"the probe on few labels {than} random weights", gain <= 0
    elif now and before is not None and run.progress >= HALF:
        seen = f"kNN accuracy is {100 * now[0]:.1f} %; with random weights it was {100 * before:.1f} %"
        worse = now[0] <= before - WORSE
    else:
        return None
    if not worse:
        return None
    return Finding(
        "no-learning",
        "warning",
        f"Features are no better than with random weights: {seen}.",
        "Check the other findings and the views, and whether the loss separates what the test labels separate.",
    )


SAME = 0.999
"""Score of the hardest negatives from which they count as the query's own sample."""
BEATEN = 0.02
"""Pretext accuracy up to which positives count as beaten by the negatives."""
ONE_CLASS = 0.999
"""Share of samples of the query's class from which the labels count as a single class."""
MOSTLY = 0.7
"""Same-class share of the softmax denominator that is reported; finished runs on ten classes have about 0.5."""
BEYOND_CHANCE = 0.4
"""Excess of the same-class share over chance, as a share of the largest possible excess, that is reported.

It takes effect where a class has half of the samples or more; for two equal classes it equals `MOSTLY`.
"""


def positives_among_negatives(run: Evidence) -> Finding | None:
    """Rule: positives among the negatives, that is, negatives of score 1 that no positive beats, without collapse."""
    hardest = run.settled("hardest", "quantiles", "5")
    ranked = run.scalars("proxy/accuracy")[-5:]
    std, width = run.settled("embedding", "std", "3"), run.settled("embedding", "width")
    if hardest is None or hardest < SAME or not ranked or std is None or not width or run.progress < EARLY:
        return None
    if max(ranked) > BEATEN or std < 0.3 / math.sqrt(width):
        return None
    return Finding(
        "positives-among-negatives",
        "problem",
        f"The hardest negatives score {hardest:.2f}, and the positive has the highest score in only "
        f"{100 * max(ranked):.0f} % of queries: each query's own sample is among its negatives.",
        "Give `Pairs` the sample indices: the loss excludes negatives of the query's own index.",
    )


def false_negatives(run: Evidence) -> Finding | None:
    """Rule: false negatives, that is, most of the softmax denominator belongs to the query's own class."""
    share, chance = run.settled("false_negatives", "denominator"), run.settled("false_negatives", "random")
    if chance is None:  # older rows do not record it
        chance = run.settled("false_negatives", "shared")
    if share is None or run.progress < EARLY:
        return None
    if chance is not None and (chance >= ONE_CLASS or share <= chance + BEYOND_CHANCE * (1 - chance)):
        return None  # with one class, or near chance, labels do not tell which negatives are false
    if share <= MOSTLY:
        return None
    beside = "" if chance is None else f", and this class has {100 * chance:.0f} % of all samples"
    return Finding(
        "false-negatives",
        "warning",
        f"Negatives of the query's own class have {100 * share:.0f} % of the softmax denominator{beside}.",
        "With few classes, debias (HCL), remove the most similar negatives, raise the temperature, or use the "
        "labels (SupCon).",
    )


def labels(run: Evidence) -> Finding | None:
    """Rule: a supervised loss (SupCon, LOOK) with labels that are all the same or all different."""
    name, chance = run.class_of("model", "init_args", "loss"), run.settled("false_negatives", "random")
    if name not in ("SupCon", "LOOK"):
        return None
    if chance is None and run.observed and not any("negative" in row for row in run.observed):
        chance = 1.0  # with one class all samples are positives, so no query has a negative
    if chance is None or 0 < chance < ONE_CLASS:
        return None
    if chance == 0:
        seen = f"{name} learns from labels, and no two samples have the same label: it is then InfoNCE."
    else:
        seen = f"{name} learns from labels, and {100 * chance:.0f} % of all samples have the query's class."
    return Finding("labels", "problem", seen, "Give labels of two classes or more, with several samples each.")


def duplicates(run: Evidence) -> Finding | None:
    """Rule: near-duplicates in the training set that `contrast duplicates` has found."""
    within = run.duplicates.get("within train")
    found: dict[str, Any] = within if isinstance(within, dict) else {}
    pairs, samples, threshold = found.get("pairs"), found.get("samples"), run.duplicates.get("threshold")
    if not isinstance(pairs, int) or not pairs or not isinstance(samples, int):
        return None
    complete, two = found.get("complete"), found.get("of_two_classes")
    # Files of earlier versions lack `complete`, and count only one sample of each pair.
    many = f"At least {samples:,}" if complete is None else f"{samples:,}"
    least = "" if complete else "at least "
    seen = f"{many} training samples have a near-duplicate ({least}{pairs:,} pairs of cosine {threshold} or more)"
    if not isinstance(two, int) or isinstance(two, bool):
        meaning = "copies are false negatives of each other"
    elif two == 0:
        meaning = "they are false negatives of each other"
    else:
        others = "; the samples of the other pairs are false negatives of each other" if two < pairs else ""
        meaning = f"{two:,} of the pairs have two different labels{others}"
    return Finding(
        "duplicates",
        "warning",
        f"{seen}: {meaning}.",
        "Check the pictures in the run's folder duplicates/, and remove one sample of each pair of copies"
        f"{'; copies with two different labels have a wrong label' if two else ''}.",
    )


def queue_filling(run: Evidence) -> Finding | None:
    """Rule: a first-in-first-out memory bank that the run never fills, or fills only after a third of its steps."""
    bank = run.setting("model", "init_args", "bank")
    given = bank.get("init_args") if isinstance(bank, dict) else None
    settings: dict[str, Any] = given if isinstance(given, dict) else {}
    size, together = settings.get("size") or settings.get("capacity"), run.samples_per_step
    steps = run.status.get("steps")
    if not isinstance(size, int) or together is None or not isinstance(steps, int) or settings.get("per_sample"):
        return None
    needed = -(-size // together)
    if not steps or needed <= steps / 3:
        return None
    never = f"this run of {steps:,} steps never fills it" if needed > steps else f"this run has {steps:,} steps"
    return Finding(
        "queue-filling",
        "warning",
        f"The bank of {size:,} keys needs {needed:,} steps of {together:,} samples to fill; {never}.",
        f"Use a bank of {max(1, steps // 10) * together:,} keys or fewer, or train longer.",
    )


ALL, ONE = 0.97, 3.0
"""Bounds on the effective number of negatives.

Above the first, a share of all negatives, all of them weigh alike. Below the second, a number, one negative decides.
"""
FEWEST = 32
"""Smallest number of negatives per query for which the bounds on the loss and on its gradient are meaningful."""
SAME_TEMPERATURE = 0.99
"""Mean positive score at the start above which query and positive count as the same."""
ABOVE = 1.5
"""Ratio of the first loss to log(K + 1) above which the loss counts as too high."""


def loss_start(run: Evidence) -> Finding | None:
    """Rule: a loss at the start far from log(K + 1), the InfoNCE loss of K negatives with equal scores."""
    placeholders = run.first("placeholders", "mean") or 0.0  # random rows of a new queue count in the loss too
    count = (run.first("gradient", "negatives") or 0.0) + placeholders
    loss = next(iter(run.scalars("train/loss")), None)
    positive, negative = run.first("positive", "mean"), run.first("negative", "mean")
    if negative is None and placeholders:
        negative = 0.0  # all negatives are random rows, whose mean score is about 0
    tau = run.first("temperature", "value")
    if not count or loss is None or positive is None or negative is None or tau is None:
        return None
    expected = math.log(count + 1)
    start = f"The loss starts at {loss:.2f}; log(K + 1) of {count:,.0f} negatives is {expected:.2f}"
    if positive > SAME_TEMPERATURE > negative and loss < expected - 1:
        return Finding(
            "loss-start",
            "problem",
            f"{start}, and positives already score {positive:.3f} at the first step: each query equals its positive.",
            "Check the views: augmentation is off or too weak, or both views are the same picture.",
        )
    if count >= FEWEST and loss > ABOVE * expected and _one_head(run):
        return Finding(
            "loss-start",
            "warning",
            f"{start}: the temperature {tau:g} spreads scores of random weights too far.",
            "Raise the temperature; 0.05 to 0.5 is usual for unit embeddings.",
        )
    return None


def temperature(run: Evidence) -> Finding | None:
    """Rule: a temperature that is at its bound, too high or too low."""
    return _at_a_bound(run) or _by_negatives(run)


def _by_negatives(run: Evidence) -> Finding | None:
    """Temperature too high or too low, judged by the effective number of negatives."""
    effective, count = run.settled("gradient", "effective", "mean"), run.settled("gradient", "negatives")
    started, tau = run.first("gradient", "effective", "mean"), run.settled("temperature", "value")
    if effective is None or not count or count < FEWEST or run.progress < EARLY:
        return None
    if run.class_of("model", "init_args", "loss", "init_args", "objective") == "HardestNegative":
        return None  # by design one negative decides at any temperature
    at_temperature = "" if tau is None else f" at temperature {tau:g}"
    uniformity = run.settled("embedding", "uniformity")
    collapsed = uniformity is not None and uniformity >= POINT  # there all scores are equal at any temperature
    if effective > ALL * count and not collapsed:
        return Finding(
            "temperature",
            "warning",
            f"The gradient falls equally on {effective:,.0f} of {count:,.0f} negatives{at_temperature}: hard negatives "
            "count no more than easy ones.",
            "Lower the temperature.",
        )
    coldest = min(effective, effective if started is None else started)
    if coldest < ONE:
        return Finding(
            "temperature",
            "warning",
            f"The gradient falls on {coldest:.1f} of {count:,.0f} negatives{at_temperature}: one negative decides, "
            "often a false one.",
            "Raise the temperature.",
        )
    return None


def _at_a_bound(run: Evidence) -> Finding | None:
    """Temperature with bounds, such as a learned one, within 1 % of its lowest or highest value."""
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
                f"The temperature is at its {name} value: {tau:.3g}.",
                f"If this is not intended, move the {'lower' if name == 'lowest' else 'upper'} bound.",
            )
    return None


def _one_head(run: Evidence) -> bool:
    """Whether the run has a single projection head, not a `MultiHead`."""
    head = run.setting("model", "init_args", "head", "class_path")
    return not (isinstance(head, str) and "MultiHead" in head)
