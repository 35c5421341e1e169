"""The learning rate of a run for 256 samples a step, and what its optimiser is usually used at."""

from __future__ import annotations

from contrast.doctor.evidence import Evidence

__all__ = ["rate_of_256", "usual_rates"]

USUAL = {
    "SGD": (0.003, 3.0),
    "LARS": (0.03, 10.0),
    "Adam": (1e-5, 1e-2),
    "AdamW": (1e-5, 1e-2),
}
"""Peak rates for 256 samples a step, half a decade beyond those of the published recipes at either end."""
ADAPTIVE = ("Adam", "AdamW")
"""Optimisers whose step does not grow with the gradient, so that small batches need no smaller rate."""


def usual_rates(run: Evidence) -> tuple[float, float]:
    """The lowest and the highest usual rate of the run's optimiser; 0 and infinity for one that is not known."""
    return USUAL.get(run.class_of("model", "init_args", "optimizer"), (0.0, float("inf")))


def rate_of_256(run: Evidence) -> float | None:
    """The peak rate, scaled linearly to 256 samples a step; None where a number is missing.

    Of an adaptive optimiser it is the peak rate as given where that is usual: small batches take the same rate.
    """
    together, rates = run.samples_per_step, run.scalars("train/rate")
    if together is None or not rates:
        return None
    peak, scaled = max(rates), max(rates) * 256 / together
    if run.class_of("model", "init_args", "optimizer") not in ADAPTIVE:
        return scaled
    low, high = usual_rates(run)
    return peak if low <= peak <= high else scaled
