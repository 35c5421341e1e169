"""Metrics that a callback of Lightning may monitor, such as `EarlyStopping`: those of ``metrics.jsonl``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import lightning

from contrast.errors import InputError, RunStopped

__all__ = ["require_monitored", "unknown_metric"]

_OFFERED = "train/loss, train/rate, and with labels online/knn_top1; metrics.csv of a run lists all"


def require_monitored(callbacks: Sequence[lightning.Callback], model: lightning.LightningModule) -> None:
    """Refuse a callback that monitors what no run has; a user's own method or callback may log more.

    Raises:
        InputError: one line with the callback, the name and names that there are.
    """
    if not all(type(each).__module__.partition(".")[0] in ("lightning", "contrast") for each in (*callbacks, model)):
        return
    for each in callbacks:
        name = getattr(each, "monitor", None)
        if isinstance(name, str) and "/" not in name:
            raise InputError(_unknown(type(each).__name__, name, ()))


def unknown_metric(error: Exception, known: Iterable[str], step: int) -> RunStopped | None:
    """A run's end where Lightning found no metric of the name that a callback monitors; None for any other error."""
    said = re.search(r"conditioned on metric `([^`]+)`|monitor='([^']+)'\) could not find", str(error))
    if said is None:
        return None
    name = said[1] or said[2]
    return RunStopped(f"{_unknown('a callback', name, known)} (at step {step})")


def _unknown(callback: str, name: str, known: Iterable[str]) -> str:
    offered = ", ".join(sorted(known)) or _OFFERED
    return f"trainer.callbacks: {callback} monitors {name!r}, which is not recorded: give one of {offered}"
