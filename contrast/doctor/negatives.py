"""Whether negatives are negatives: the query's own sample, its class, copies of it, or too few keys."""

from __future__ import annotations

import math
from typing import Any

from contrast.doctor.embedding import EARLY
from contrast.doctor.evidence import Evidence
from contrast.doctor.finding import Finding

__all__ = ["duplicates", "false_negatives", "labels", "positives_among_negatives", "queue_filling"]

SAME = 0.999
BEATEN = 0.02
ONE_CLASS = 0.999
"""Share of the samples that are of a query's class, where there is only one."""
MOSTLY = 0.7
"""Share of the denominator; runs of ten classes have about 0.5 when they are done."""
BEYOND_CHANCE = 0.4
"""Where a class has half of the samples or more: how far of the way from its share to 1, `MOSTLY` of two classes."""


def positives_among_negatives(run: Evidence) -> Finding | None:
    """Negatives of score 1 that no positive beats, in an embedding that has not collapsed."""
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
        f"Each query meets negatives of score {hardest:.2f}, and its positive wins in {100 * max(ranked):.0f} % "
        "of queries: "
        "its own sample is among its negatives.",
        "Give pairs the indices of their samples: the loss leaves out negatives of the query's own index.",
    )


def false_negatives(run: Evidence) -> Finding | None:
    """Most of the denominator is of the query's class."""
    share, chance = run.settled("false_negatives", "denominator"), run.settled("false_negatives", "random")
    if chance is None:  # of a run that was recorded before rows had it
        chance = run.settled("false_negatives", "shared")
    if share is None or run.progress < EARLY:
        return None
    if chance is not None and (chance >= ONE_CLASS or share <= chance + BEYOND_CHANCE * (1 - chance)):
        return None  # labels of one class do not tell which negatives are false
    if share <= MOSTLY:
        return None
    beside = "" if chance is None else f", which are {100 * chance:.0f} % of all samples"
    return Finding(
        "false-negatives",
        "warning",
        f"{100 * share:.0f} % of the denominator are negatives of the query's own class{beside}.",
        "With few classes, debias (HCL), remove the most similar negatives, raise the temperature, or use the "
        "labels (SupCon).",
    )


def labels(run: Evidence) -> Finding | None:
    """A loss that learns from labels, and labels that are all the same or all different."""
    name, chance = run.class_of("model", "init_args", "loss"), run.settled("false_negatives", "random")
    if name not in ("SupCon", "LOOK"):
        return None
    if chance is None and run.observed and not any("negative" in row for row in run.observed):
        chance = 1.0  # samples of one class are positives of each other, so that no query has a negative
    if chance is None or 0 < chance < ONE_CLASS:
        return None
    if chance == 0:
        seen = f"{name} learns from labels, and no two samples have the same one: it is InfoNCE."
    else:
        seen = f"{name} learns from labels, and {100 * chance:.0f} % of all samples are of the query's class."
    return Finding("labels", "problem", seen, "Give labels of two classes or more, with several samples each.")


def duplicates(run: Evidence) -> Finding | None:
    """What `contrast duplicates` has found within the training set."""
    within = run.duplicates.get("within train")
    found: dict[str, Any] = within if isinstance(within, dict) else {}
    pairs, samples, threshold = found.get("pairs"), found.get("samples"), run.duplicates.get("threshold")
    if not isinstance(pairs, int) or not pairs or not isinstance(samples, int):
        return None
    complete, two = found.get("complete"), found.get("of_two_classes")
    # Files of earlier versions do not tell, and count one sample of each pair only.
    many = f"At least {samples:,}" if complete is None else f"{samples:,}"
    least = "" if complete else "at least "
    seen = f"{many} training samples have a near-duplicate ({least}{pairs:,} pairs of cosine {threshold} or more)"
    if not isinstance(two, int) or isinstance(two, bool):
        meaning = "where a pair is a copy, each is a false negative of the other"
    elif two == 0:
        meaning = "each is a false negative of the other"
    else:
        others = "; in the others each is a false negative of the other" if two < pairs else ""
        meaning = f"{two:,} of the pairs are of two classes by their labels{others}"
    return Finding(
        "duplicates",
        "warning",
        f"{seen}: {meaning}.",
        "Look at the pictures in the run's folder duplicates/, and leave out one of each pair that is a copy"
        f"{'; copies of two classes have a wrong label' if two else ''}.",
    )


def queue_filling(run: Evidence) -> Finding | None:
    """A first-in-first-out bank that the run's samples do not fill, or whose random keys stay for long."""
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
    never = f"a run of {steps:,} steps never fills it" if needed > steps else f"a run has {steps:,}"
    return Finding(
        "queue-filling",
        "warning",
        f"The bank of {size:,} keys is filled by {needed:,} steps of {together:,} samples; {never}.",
        f"Take a bank of {max(1, steps // 10) * together:,} keys or fewer, or train longer.",
    )
