"""Rules of the doctor on how a run was trained: failures, damaged files, inactive pieces, rate, shortcuts, pairs."""

from __future__ import annotations

from contrast.doctor.evidence import Evidence, Finding
from contrast.doctor.rates import rate_of_256, usual_rates
from contrast.doctor.run_rules import EARLY, FEWEST, queue_filling

__all__ = ["bad_pairs", "damaged_file", "failed", "inactive", "rate_and_batch", "shortcut"]

TOO_MANY = 0.3
"""Share of flagged samples above which bad-pair mining is reported."""
SURE, SEPARATED, SAME_LOSS = 0.5, 0.9, 0.99
"""Bounds of `shortcut`: smallest pretext accuracy, smallest AUC, largest mean positive score at the start."""
POOR, BETTER = 0.9, 0.05
"""Bounds of `shortcut` on the kNN accuracy, as shares: its value, and its gain over the run."""


def failed(run: Evidence) -> Finding | None:
    """Rule: a run that failed, according to its status."""
    if run.status.get("state") != "failed":
        return None
    message = str(run.status.get("message") or "").strip() or "it left no message"
    step = run.status.get("step")
    return Finding("failed", "problem", f"The run failed at step {step}: {message}", f"Fix the cause, then {run.next}")


def damaged_file(run: Evidence) -> Finding | None:
    """Rule: damaged files, whose content all other rules miss."""
    if not run.damaged:
        return None
    one = len(run.damaged) == 1
    return Finding(
        "damaged-file",
        "warning",
        f"{', '.join(run.damaged)} cannot be read: {'its' if one else 'their'} content is missing here.",
        f"Restore {'the file' if one else 'these files'} from a copy of the run, or remove "
        f"{'it' if one else 'them'}; findings and figures that need {'it' if one else 'them'} are not shown.",
    )


def inactive(run: Evidence) -> Finding | None:
    """Rule: inactive pieces, which start only after the run's end, as the run has recorded for its current length."""
    pieces = run.inactive.get("pieces")
    found = [each for each in pieces if isinstance(each, dict)] if isinstance(pieces, list) else []
    banks = queue_filling(run) is None  # False: queue_filling already reports the bank, with a size that would fit
    shown = [each for each in found if banks or each.get("bank") is not True]
    reasons = [each["reason"] for each in shown if isinstance(each.get("reason"), str)]
    if not reasons:
        return None
    by_schedule = all(
        " warms up for " in each or " has milestones " in each for each in reasons
    )  # reasons of schedules
    return Finding(
        "inactive",
        "warning",
        "; ".join(reasons) + ".",
        "Shorten the warm-up, set earlier milestones, or train longer."
        if by_schedule
        else "Start the component earlier, train longer, or remove it and do not name the run after it.",
    )


def rate_and_batch(run: Evidence) -> Finding | None:
    """Rule: a learning rate of 0, or a peak rate for 256 samples per step far from the usual rates of the optimiser."""
    name, (low, high) = run.class_of("model", "init_args", "optimizer"), usual_rates(run)
    together, rates, rate = run.samples_per_step, run.scalars("train/rate"), rate_of_256(run)
    if rates and max(rates) == 0:
        return Finding(
            "rate-and-batch",
            "problem",
            "The learning rate is 0 at every recorded step: nothing is trained.",
            "Give model.optimizer a learning rate above 0.",
        )
    if together is None or rate is None or low <= rate <= high or run.progress < EARLY:
        return None
    than = "below" if rate < low else "above"
    return Finding(
        "rate-and-batch",
        "warning",
        f"The learning rate peaks at {max(rates):.3g} for {together:,} samples per step, or {rate:.3g} for 256; "
        f"usual rates of {name} are {low:g} to {high:g}, so this is far {than}.",
        "Scale the rate with the batch size (rate_scaling), and count the samples of all processes.",
    )


def shortcut(run: Evidence) -> Finding | None:
    """Rule: shortcut, that is, positives win against all negatives, but the features do not improve.

    Something other than content identifies the positives, for example batch norm statistics or a mark in the views.
    """
    ranked, knn = run.scalars("proxy/accuracy"), run.scalars("online/knn_top1")
    auc, alike = run.settled("separation", "auc"), run.first("positive", "mean")
    negatives = run.settled("gradient", "negatives")
    if negatives is not None and negatives < FEWEST:  # against few negatives random weights win too
        return None
    if len(ranked) < 10 or len(knn) < 2 or auc is None or run.progress < EARLY:
        return None
    wins = sum(ranked[-5:]) / len(ranked[-5:])
    poor = knn[-1] < POOR and knn[-1] - knn[0] < BETTER
    if wins < SURE or auc < SEPARATED or not poor or (alike is not None and alike > SAME_LOSS):
        return None
    return Finding(
        "shortcut",
        "warning",
        f"The positive scores above all negatives in {100 * wins:.0f} % of queries, yet kNN went from "
        f"{100 * knn[0]:.1f} % to {100 * knn[-1]:.1f} %: something other than content identifies the positives.",
        "Check for batch norm over one device's samples (shuffle keys, or use SyncBatchNorm), and for marks that both "
        "views keep.",
    )


def bad_pairs(run: Evidence) -> Finding | None:
    """Rule: bad-pair mining that flags too many of the samples."""
    shares = [run.scalars(f"bad_pairs/{kind}")[-5:] for kind in ("noisy", "faulty")]
    share = sum(sum(values) / len(values) for values in shares if values)
    if share <= TOO_MANY:
        return None
    return Finding(
        "bad-pairs",
        "warning",
        f"Bad-pair mining flags {100 * share:.0f} % of the samples; bad pairs should be exceptions.",
        "Raise its bounds `noisy` and `faulty` (in standard deviations).",
    )
