"""Whether training itself went wrong: failed, at an odd rate, by a shortcut, or on pairs that are mostly bad."""

from __future__ import annotations

from contrast.doctor.embedding import EARLY
from contrast.doctor.evidence import Evidence
from contrast.doctor.finding import Finding
from contrast.doctor.negatives import queue_filling
from contrast.doctor.rates import rate_of_256, usual_rates
from contrast.doctor.temperature import FEWEST

__all__ = ["bad_pairs", "damaged_file", "failed", "inactive", "rate_and_batch", "shortcut"]

TOO_MANY = 0.3
SURE, SEPARATED, ALIKE = 0.5, 0.9, 0.99
POOR, BETTER = 0.9, 0.05


def failed(run: Evidence) -> Finding | None:
    """The run says so."""
    if run.status.get("state") != "failed":
        return None
    message = str(run.status.get("message") or "").strip() or "it left no message"
    step = run.status.get("step")
    return Finding("failed", "problem", f"The run failed at step {step}: {message}", f"Fix the cause, then {run.next}")


def damaged_file(run: Evidence) -> Finding | None:
    """Files of the folder that hold nothing readable: no other rule knows what they said."""
    if not run.damaged:
        return None
    one = len(run.damaged) == 1
    return Finding(
        "damaged-file",
        "warning",
        f"{', '.join(run.damaged)} cannot be read: what {'it' if one else 'they'} said is missing here.",
        f"Restore {'the file' if one else 'these files'} from a copy of the run, or remove "
        f"{'it' if one else 'them'}; findings and figures that need {'it' if one else 'them'} are left out.",
    )


def inactive(run: Evidence) -> Finding | None:
    """Pieces that start later than the run ends; the run itself has written which, for its present length."""
    pieces = run.inactive.get("pieces")
    found = [each for each in pieces if isinstance(each, dict)] if isinstance(pieces, list) else []
    banks = queue_filling(run) is None  # which says the same of a bank, with a size that would fit
    told = [each for each in found if banks or each.get("bank") is not True]
    reasons = [each["reason"] for each in told if isinstance(each.get("reason"), str)]
    if not reasons:
        return None
    courses = all(" warms up for " in each or " has milestones " in each for each in reasons)  # of schedules
    return Finding(
        "inactive",
        "warning",
        "; ".join(reasons) + ".",
        "Shorten the warm-up or bring the milestones forward, or train longer."
        if courses
        else "Lower the start, train longer, or leave the piece out and do not call the run by its name.",
    )


def rate_and_batch(run: Evidence) -> Finding | None:
    """The peak rate for 256 samples a step, far from what the optimiser is used at."""
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
        f"The learning rate peaks at {max(rates):.3g} for {together:,} samples a step, {rate:.3g} for 256; {name} "
        "is used "
        f"at {low:g} to {high:g}, so this is far {than}.",
        "Scale the rate with the batch (rate_scaling), and count all processes' samples.",
    )


def shortcut(run: Evidence) -> Finding | None:
    """Positives found by what is no content: batch norm's statistics, a mark; they win, and features get no better."""
    ranked, knn = run.scalars("proxy/accuracy"), run.scalars("online/knn_top1")
    auc, alike = run.settled("separation", "auc"), run.first("positive", "mean")
    negatives = run.settled("gradient", "negatives")
    if negatives is not None and negatives < FEWEST:  # of a few negatives, random weights beat all in many queries
        return None
    if len(ranked) < 10 or len(knn) < 2 or auc is None or run.progress < EARLY:
        return None
    wins = sum(ranked[-5:]) / len(ranked[-5:])
    poor = knn[-1] < POOR and knn[-1] - knn[0] < BETTER
    if wins < SURE or auc < SEPARATED or not poor or (alike is not None and alike > ALIKE):
        return None
    return Finding(
        "shortcut",
        "warning",
        f"Positives win against all negatives in {100 * wins:.0f} % of queries, yet kNN went from {100 * knn[0]:.1f} % "
        f"to {100 * knn[-1]:.1f} %: something else than content gives them away.",
        "Look for batch norm over one device's samples (shuffle keys, or SyncBatchNorm), and for marks that both views "
        "keep.",
    )


def bad_pairs(run: Evidence) -> Finding | None:
    """A mining that flags most of what it sees."""
    shares = [run.scalars(f"bad_pairs/{kind}")[-5:] for kind in ("noisy", "faulty")]
    share = sum(sum(values) / len(values) for values in shares if values)
    if share <= TOO_MANY:
        return None
    return Finding(
        "bad-pairs",
        "warning",
        f"Bad-pair mining flags {100 * share:.0f} % of the samples: they are the rule, not the exception.",
        "Raise its bounds noisy and faulty, in standard deviations.",
    )
