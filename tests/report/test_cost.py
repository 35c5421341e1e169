"""What a page costs grows with the rows, not with their square, and what it weighs does not grow with them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrast import records
from contrast.records import append_row, last_row, mark_resumed, read_rows, read_some_rows
from contrast.report import build_page, read_runs
from contrast.report.curves import MOST_ROWS, curve
from contrast.report.numbers import running_mean, smoothing_window
from contrast.run_folder import RunFolder
from tests.report.synthetic import EDGES, Shape, write_rows, write_run


class Counted(list[Any]):
    """A list that counts how many of its values were looked at."""

    looks = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        Counted.looks += len(found) if isinstance(place, slice) else 1
        return found

    def __iter__(self) -> Iterator[Any]:
        for value in super().__iter__():
            Counted.looks += 1
            yield value


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each line that was parsed."""
    found: list[int] = []
    parse = records.parse_json
    monkeypatch.setattr(records, "parse_json", lambda line: (found.append(len(line)), parse(line))[1])
    return found


def test_a_running_mean_looks_at_each_value_a_few_times_whatever_its_window() -> None:
    for count in (1_000, 8_000):
        for window in (5, smoothing_window(count), count // 2):
            Counted.looks = 0
            running_mean(Counted([1.0] * count), window)
            assert Counted.looks <= 3 * count


def test_a_huge_value_leaves_no_error_in_the_windows_behind_it() -> None:
    values = [1.0] * 50 + [1e300] + [0.1] * 50
    assert running_mean(values, 5)[60:] == pytest.approx([0.1] * 41, rel=1e-12)
    assert running_mean([1e308] * 9, 5) == [None] * 2 + [None] * 5 + [None] * 2 or None not in running_mean(
        [1e307] * 9, 5
    )


def test_many_resumes_take_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, looks = tmp_path / "rows.jsonl", [0]
    after = records._after
    monkeypatch.setattr(records, "_after", lambda row, step: (looks.__setitem__(0, looks[0] + 1), after(row, step))[1])
    rows = [{"step": step} for step in range(500)]
    write_rows(path, [line for row in rows for line in (row, {"resumed": row["step"]})])
    assert read_rows(path) == rows
    assert looks[0] == 500


LINES = st.lists(
    st.one_of(
        st.builds(lambda step: {"resumed": step}, st.integers(0, 9)),
        st.builds(lambda step, text: {"step": step, "text": text}, st.integers(0, 9), st.text(max_size=9)),
        st.builds(lambda text: {"edges": [1], "text": text}, st.text(max_size=9)),
        st.builds(lambda step: {"text": "", "step": step}, st.integers(0, 9)),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=80)
@given(LINES, st.integers(1, 2_000), st.binary(max_size=5))
def test_some_rows_are_rows_of_the_file_with_its_ends(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, Any]], most: int, cut: bytes
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_rows(path, lines)
    with open(path, "ab") as file:
        file.write(cut.replace(b"\n", b""))
    whole = read_rows(path)
    some, count = read_some_rows(path, most)
    assert count == len(whole)
    places = iter(whole)
    assert all(row in places for row in some), "in order, each once"
    if whole:
        assert (some[0], some[-1]) == (whole[0], whole[-1])
        assert [row for row in whole if "step" not in row][:16] == [row for row in some if "step" not in row][:16]
    with_step = [row for row in whole if "step" in row]
    assert last_row(path) == (with_step[-1] if with_step else None)


def test_a_large_file_of_rows_is_sampled_within_a_budget(tmp_path: Path, parsed: list[int]) -> None:
    path = tmp_path / "rows.jsonl"
    for count in (2_000, 8_000):
        write_rows(path, [{"edges": [0, 1]}, *({"step": step, "counts": [1] * 100} for step in range(count))])
        parsed.clear()
        some, found = read_some_rows(path, 100_000)
        assert found == count + 1
        assert sum(parsed) < 110_000
        assert 200 < len(some) < 400
        assert [row.get("step") for row in (some[0], some[1], some[-1])] == [None, some[1]["step"], count - 1]


def test_the_last_row_is_found_without_reading_the_others(tmp_path: Path, parsed: list[int]) -> None:
    path = tmp_path / "gallery.jsonl"
    write_rows(path, [{"step": step, "queries": ["x" * 5_000]} for step in range(200)])
    tracemalloc.start()
    assert last_row(path) == {"step": 199, "queries": ["x" * 5_000]}
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(parsed) <= 2
    assert most < path.stat().st_size / 2  # bytes held: a few blocks of the file's end
    mark_resumed(path, 150)
    append_row(path, {"step": 151})
    mark_resumed(path, 150)
    assert (last_row(path) or {})["step"] == 150
    assert last_row(tmp_path / "none") is None


@given(st.integers(1, 3_000), st.integers(0, 2_999))
@settings(deadline=None, max_examples=30)
def test_a_thinned_curve_keeps_every_extreme(count: int, spike: int) -> None:
    values = [place % 17 - 8.0 for place in range(count)]
    values[spike % len(values)] = 99.0
    rows = [{"step": step, "a": {"b": value}} for step, value in enumerate(values)]
    drawn = curve(rows, "a", "b")
    assert len(drawn) <= MOST_ROWS + 2
    assert (spike % len(values), 99.0) in drawn
    assert min(value for _, value in drawn) == min(values)


def test_the_pages_weight_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    sizes = {}
    for rows in (2_000, 8_000):
        path = write_run(tmp_path / str(rows) / "run", Shape(snapshots=2, epochs=1))
        metrics = [
            {"step": step, "epoch": step, "train/loss": step % 13, "train/rate": step % 7 / 7, "proxy/accuracy": 0.123,
             "online/knn_top1": step % 11 / 11, "bad_pairs/noisy": 0.1, "bad_pairs/faulty": 0.2}
            for step in range(10_000, 10_000 + rows)
        ]  # fmt: skip
        write_rows(path / "metrics.jsonl", metrics)
        counts = [3 if place % 7 else 0 for place in range(100)]
        side = {"counts": counts, "mean": 0.123456, "std": 0.25}
        spread = [1, 2, 3, 4, 5, 6, 7]
        scores = [
            {"step": step, "epoch": 9, "positive": side, "negative": side, "separation": {"auc": step % 9 / 9},
             "gradient": {"negatives": 512, "effective": {"mean": 3 + step % 5 / 5, "quantiles": spread}}}
            for step in range(10_000, 10_000 + rows)
        ]  # fmt: skip
        write_rows(path / "scores.jsonl", [{"format": 2, "edges": EDGES}, *scores])
        bank = [{"step": step, "ages": {"quantiles": spread}} for step in range(10_000, 10_000 + rows)]
        write_rows(path / "bank.jsonl", bank)
        sizes[rows] = len(build_page(read_runs([RunFolder(path)])))
    assert abs(sizes[8_000] - sizes[2_000]) < 0.02 * sizes[2_000]
    assert sizes[8_000] < 4_000_000


def test_a_report_parses_each_row_once(tmp_path: Path, parsed: list[int]) -> None:
    path = write_run(tmp_path / "run", Shape(snapshots=50, epochs=2))
    lines = sum(file.read_bytes().count(b"\n") for file in (path / "metrics.jsonl", path / "scores.jsonl"))
    read_runs([RunFolder(path)])
    assert sum(each > 0 for each in parsed) <= lines + 10
