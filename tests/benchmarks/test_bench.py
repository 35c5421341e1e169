"""The benchmarks' arithmetic: ratios, quartiles, targets, exponents, and the table that is made of them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.growth import AXES, exponent
from benchmarks.growth_figure import draw
from benchmarks.loss import most_memory
from benchmarks.table import main, rendered
from benchmarks.timing import Row, Times, interleaved


def row(ratio: float, better: str, target: float | None) -> Row:
    return Row("loss", "what", "a peer", ratio, ratio - 0.5, ratio + 0.5, better, target, 2.0, 2.0 * ratio)


@pytest.mark.parametrize(
    ("ratio", "better", "target", "reached"),
    [(3.0, "higher", 3.0, True), (2.9, "higher", 3.0, False), (1.3, "lower", 1.3, True), (1.4, "lower", 1.3, False)],
)
def test_a_target_is_reached_from_its_own_side(ratio: float, better: str, target: float, reached: bool) -> None:
    assert row(ratio, better, target).reached is reached
    assert row(ratio, better, None).reached is None


def test_ratios_are_of_one_repetition_each() -> None:
    times = Times({"ours": [1.0, 2.0, 4.0, 1.0, 2.0], "peer": [3.0, 6.0, 12.0, 3.0, 60.0]})
    faster = times.faster("loss", "what", "ours", "peer", 3.0)
    assert (faster.ratio, faster.low, faster.better) == (3.0, 3.0, "higher")
    assert (faster.ours, faster.theirs) == (2000.0, 6000.0)
    slower = times.over_floor("loss", "what", "ours", "peer", 1.0)
    assert slower.ratio == pytest.approx(1 / 3)
    assert slower.reached


def test_ways_are_taken_in_turn() -> None:
    order: list[str] = []
    ways = {name: lambda name=name: order.append(name) for name in "ab"}
    times = interleaved(ways, 3, warm_up=1)
    assert "".join(order) == "ab" + "ba" + "ab" + "ba"
    assert {name: len(seconds) for name, seconds in times.seconds.items()} == {"a": 3, "b": 3}


def test_a_slow_way_is_slow() -> None:
    times = interleaved({"fast": lambda: None, "slow": lambda: time.sleep(0.01)}, 3)
    assert times.faster("loss", "what", "fast", "slow", None).ratio > 10


def test_the_exponent_is_the_power_laws() -> None:
    assert exponent([(size, 7 * size**2) for size in (2, 4, 8, 16, 32)]) == pytest.approx(2)
    # A constant cost of small sizes does not count.
    assert exponent([(2, 900), (4, 900), (8, 2048), (16, 4096), (32, 8192)]) == pytest.approx(1)
    assert exponent([(2, 1), (4, 0), (8, 0), (16, 0)]) is None


def test_the_most_memory_is_this_process_s() -> None:
    assert 10_000 < most_memory() < 50_000_000  # KiB


def test_two_runs_make_one_table(tmp_path: Path) -> None:
    runs = []
    for name, ratio in (("first", 3.5), ("second", 2.5)):
        file = tmp_path / f"{name}.json"
        rows = [row(ratio, "higher", 3.0).as_json(), row(9.0, "higher", None).as_json()]
        file.write_text(json.dumps({"commit": "abc", "machine": {"processor": "P"}, "rows": rows}))
        runs.append(file)
    page = tmp_path / "page.md"
    page.write_text(
        "# By hand\n\n<!-- bench benchmarks: made by make bench, not by hand -->\n"
        "<!-- end of bench benchmarks -->\n\nMore.\n"
    )
    assert main([*map(str, runs), "--docs", str(page)]) == 0
    text = page.read_text()
    assert "| what | a peer | ≥ 3 | 3.50 (3.00 to 4.00), 2.50 (2.00 to 3.00) **missed** |" in text
    assert "9.00 (8.50 to 9.50), 9.00 (8.50 to 9.50) |" in text
    assert text.startswith("# By hand")
    assert text.endswith("More.\n")
    assert "commit abc, processor P; 2 runs." in text


def test_runs_of_other_parts_are_not_one_table() -> None:
    first, second = ({"commit": "a", "machine": {}, "rows": [row(1.0, "higher", None).as_json()]} for _ in range(2))
    second["rows"][0]["what"] = "else"
    with pytest.raises(SystemExit, match="other parts"):
        rendered([first, second])


def test_growth_is_drawn(tmp_path: Path) -> None:
    axes = [
        {
            "axis": name,
            "title": title,
            "points": [{"size": size, "seconds": 1e-3 * size, "mebibytes": 2.0} for size in sizes],
            "exponents": {"seconds": 1.0, "mebibytes": None},
        }
        for name, (title, sizes) in AXES.items()
    ]
    draw(axes, tmp_path / "growth.svg")
    drawing = (tmp_path / "growth.svg").read_text()
    assert drawing.count(">CPU seconds, exponent 1.00<") == len(AXES)
    assert all(title in drawing for title, _ in AXES.values())
