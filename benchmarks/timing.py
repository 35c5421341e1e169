"""Times of several ways to do one thing, taken in turn, so that a machine's drift meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Row", "Times", "interleaved"]


@dataclass(frozen=True)
class Row:
    """A ratio that was measured, and what is asked of it.

    Attributes:
        part: loss, views, step, loading, evaluation or start.
        what: what was timed, with its sizes.
        against: the floor or the peer.
        ratio: median over repetitions; which way it goes stands in `better`.
        low, high: quartiles of the ratio, or the least and greatest of fewer than four.
        better: "higher" or "lower".
        target: what is to be reached, None where nothing is asked.
        ours, theirs: medians, in `unit`.
        unit: of both.
        note: what a reader must know.
    """

    part: str
    what: str
    against: str
    ratio: float
    low: float
    high: float
    better: str
    target: float | None
    ours: float
    theirs: float
    unit: str = "ms"
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.ratio >= self.target if self.better == "higher" else self.ratio <= self.target

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"reached": self.reached}


class Times:
    """Seconds of each way, repetition by repetition."""

    def __init__(self, seconds: Mapping[str, list[float]]) -> None:
        self.seconds = dict(seconds)

    def milliseconds(self, name: str) -> float:
        """The median of one way."""
        return 1e3 * statistics.median(self.seconds[name])

    def ratio(self, name: str, to: str) -> tuple[float, float, float]:
        """Median and quartiles of time over time, both of one repetition."""
        pairs = zip(self.seconds[name], self.seconds[to], strict=True)
        return _spread([one / other for one, other in pairs])

    def faster(self, part: str, what: str, name: str, than: str, target: float | None, note: str = "") -> Row:
        """How many times as fast `name` is as a peer."""
        ratio = self.ratio(than, name)
        return Row(
            part, what, than, *ratio, "higher", target, self.milliseconds(name), self.milliseconds(than), note=note
        )

    def over_floor(self, part: str, what: str, name: str, floor: str, target: float | None, note: str = "") -> Row:
        """How many times the time of a floor `name` takes."""
        ratio = self.ratio(name, floor)
        return Row(
            part, what, floor, *ratio, "lower", target, self.milliseconds(name), self.milliseconds(floor), note=note
        )


def interleaved(ways: Mapping[str, Callable[[], object]], repetitions: int, warm_up: int = 1) -> Times:
    """Time each way once a repetition, in an order that turns from one repetition to the next."""
    names = list(ways)
    for _ in range(warm_up):
        for name in names:
            ways[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(repetitions):
        for name in names if repetition % 2 else reversed(names):
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    return Times(seconds)


def _spread(values: list[float]) -> tuple[float, float, float]:
    middle = statistics.median(values)
    if len(values) < 4:
        return middle, min(values), max(values)
    low, _, high = statistics.quantiles(values, n=4)
    return middle, low, high
