"""Learning rate of a run, scaled to 256 samples per step, and the usual rates of its optimiser."""

from __future__ import annotations

from contrast.doctor.evidence import Evidence

__all__ = ["rate_of_256", "usual_rates"]

USUAL = {
    "SGD": (0.003, 3.0),
    "LARS": (0.03, 10.0),
    "Adam": (1e-5, 1e-2),
    "AdamW": (1e-5, 1e-2),
}
"""Usual peak rates for 256 samples per step: the range of published recipes, widened by half a decade at each end."""
ADAPTIVE = ("Adam", "AdamW")
"""Optimisers whose step size does not grow with the gradient, so that small batches do not need a smaller rate."""


def usual_rates(run: Evidence) -> tuple[float, float]:
    """Lowest and highest usual learning rate of the run's optimiser; 0 and infinity for an unknown optimiser."""
    return USUAL.get(run.class_of("model", "init_args", "optimizer"), (0.0, float("inf")))


def rate_of_256(run: Evidence) -> float | None:
    """Peak learning rate of a run, scaled linearly to 256 samples per step.

        rate = peak · 256 / (samples per step)

    For an adaptive optimiser whose unscaled peak rate is usual, the result is the unscaled peak rate, because small
    batches use the same rate.

    Args:
        run: the evidence of the run.

    Returns:
        The rate. None where the batch size or the recorded rates are missing.
    """
    together, rates = run.samples_per_step, run.scalars("train/rate")
    if together is None or not rates:
        return None
    peak, scaled = max(rates), max(rates) * 256 / together
    if run.class_of("model", "init_args", "optimizer") not in ADAPTIVE:
        return scaled
    low, high = usual_rates(run)
    return peak if low <= peak <= high else scaled
