"""The list: which runs there are, what it says of each, and that it follows them."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from contrast.dashboard.listing import Listing
from contrast.dashboard.runs_folder import RunsFolder
from contrast.records import append_row
from contrast.runs.status import Status, write_status
from tests.dashboard.serving import Dashboard, serving
from tests.report.reading import Page
from tests.report.synthetic import Shape, write_rows, write_run

AWKWARD = "sweep/seed 1 #?%&"


def said(seconds: float = 0, **changes: Any) -> Status:
    """A run of this process, last heard of so many seconds ago."""
    when = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")
    status = Status("running", 1200, 20_000, 2, 50, when, when, socket.gethostname(), os.getpid())
    return dataclasses.replace(status, **changes)


def cells(row: dict[str, Any]) -> list[str]:
    """The texts of a row's cells: tick, name, what, where, accuracy, course, changed."""
    (found,) = Page(f"<table>{row['html']}</table>").rows
    return found


def test_runs_are_found_at_any_depth_up_to_four(runs: Path) -> None:
    write_run(runs / "a/b/c/d", Shape(snapshots=1, epochs=1))
    write_run(runs / "a/b/c/e/f", Shape(snapshots=1, epochs=1))  # too deep
    write_run(runs / "first/inner", Shape(snapshots=1, epochs=1))  # within a run
    write_run(runs / ".hidden", Shape(snapshots=1, epochs=1))
    assert RunsFolder(runs).names() == ["a/b/c/d", "first", AWKWARD]
    assert [name for name in ("a/b/c/e/f", ".hidden") if RunsFolder(runs).run(name)] == []


def test_a_row_says_what_the_run_is(dashboard: Dashboard, runs: Path) -> None:
    write_status(runs / AWKWARD / "status.json", said())
    rows = dashboard.rows()
    assert list(rows) == [AWKWARD, "first"], "what trains comes first"
    _, name, what, where, accuracy, course, _ = cells(rows[AWKWARD])
    assert name == AWKWARD
    assert what == "MoCowithDCLDigits"
    assert where == "runningstep 1,200 of 20,000 · epoch 3 of 50"
    assert accuracy == "96.1\xa0%linear probeno baselines measuredkNN 93.4\xa0%"
    assert course.startswith("online kNN 38 →")
    assert 'href="/run/sweep/seed%201%20%23%3F%25%26"' in rows[AWKWARD]["html"]
    assert re.search(r'<polyline points="4.0,30.0 128.0,4.0"', rows[AWKWARD]["html"]), "two epochs, rising"


def test_without_a_status_the_rows_tell_how_far_it_is(dashboard: Dashboard) -> None:
    assert cells(dashboard.rows()["first"])[3] == "unknownstep 399 · epoch 2 of 2no status.json in its folder"


@pytest.mark.parametrize(
    ("status", "word", "note"),
    [
        (said(state="starting"), "starting", ""),
        (said(70, state="starting", process=2**40), "killed", "its process has ended without a final status"),
        (said(state="finished"), "finished", ""),
        (said(state="stopped", message="interrupted"), "stopped", "interrupted"),
        (said(state="failed", message="<b>no</b> memory"), "failed", "<b>no</b> memory"),
        (said(70, process=2**40), "killed", "its process has ended without a final status"),
        (said(700, host="elsewhere"), "silent", "no update for ten minutes"),
    ],
)
def test_every_standing_has_its_word(status: Status, word: str, note: str, dashboard: Dashboard, runs: Path) -> None:
    write_status(runs / "first/status.json", status)
    row = dashboard.rows()["first"]
    assert cells(row)[3] == f"{word}step 1,200 of 20,000 · epoch 3 of 50{note}"
    assert f'data-standing="{word}"' in row["html"]
    assert "<b>" not in row["html"]


def test_accuracy_is_the_newest_probe_then_knn_then_the_gauge(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrast.dashboard.listing.LONG", 1e9)  # a busy machine reads slowly, and would rest
    evaluations, listing = runs / "first/evaluations", Listing(RunsFolder(runs))

    def accuracy() -> str:
        return cells({"html": next(row.html for row in listing.rows() if row.name == "first")})[4]

    newer = {"command": "probe", "created": "2026-04-01T12:00:00+00:00", "top1": 0.0}
    (evaluations / "probe-newer.json").write_text(json.dumps(newer))
    assert accuracy() == "0.0\xa0%linear probeno baselines measuredkNN 93.4\xa0%"
    for file in evaluations.glob("probe*"):
        file.unlink()
    assert accuracy() == "93.4\xa0%kNNno baselines measured"
    shutil.rmtree(evaluations)
    assert re.fullmatch(r"9\d\.\d\xa0%online kNNno baselines measured", accuracy())
    beside = {"online/raw_input_knn_top1": 0.9, "online/majority_class": 0.1}
    start, later = {"step": 0, "epoch": 0, "online/knn_top1": 0.7, **beside}, {"step": 3, "epoch": 0}
    write_rows(runs / "first/metrics.jsonl", [start, {**later, "online/knn_top1": 0.8}])
    assert accuracy() == "80.0\xa0%online kNN\N{MINUS SIGN}10.0 against raw input"
    write_rows(runs / "first/metrics.jsonl", [{"step": step, "epoch": 0, "train/loss": 9 - step} for step in (1, 2, 3)])
    row = next(row for row in listing.rows() if row.name == "first")
    assert cells({"html": row.html})[4:6] == ["none yet", "loss 8 → 6"]


def test_only_the_row_that_changed_changes(dashboard: Dashboard, runs: Path) -> None:
    before = dashboard.rows()
    append_row(runs / "first/metrics.jsonl", {"step": 400, "epoch": 2, "online/knn_top1": 0.5})
    after = dashboard.rows()
    assert before[AWKWARD] == after[AWKWARD]
    assert before["first"]["stamp"] != after["first"]["stamp"]
    assert cells(after["first"])[5] == "online kNN 38 → 50\xa0%"
    assert cells(after["first"])[3].startswith("unknownstep 400 · epoch 3")


def test_nothing_is_sent_where_nothing_changed(dashboard: Dashboard, runs: Path) -> None:
    tag = dashboard.get("/runs.json").headers["etag"]
    same = dashboard.get("/runs.json", If_None_Match=tag)
    assert (same.code, same.body) == (304, b"")
    append_row(runs / "first/metrics.jsonl", {"step": 401, "epoch": 2, "train/loss": 1.0})
    assert dashboard.get("/runs.json", If_None_Match=tag).code == 200


def test_files_that_did_not_change_are_not_read_again(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contrast.dashboard import listing

    read: list[str] = []
    summarise: Callable[..., Any] = listing.summarise
    monkeypatch.setattr(
        listing, "summarise", lambda run, scalars: (read.append(run.path.name), summarise(run, scalars))[1]
    )
    found = Listing(RunsFolder(runs))
    found.rows()
    assert sorted(read) == ["first", "seed 1 #?%&"]
    write_status(runs / "first/status.json", said())
    found.rows()
    assert len(read) == 2, "a status is read by itself"
    append_row(runs / "first/metrics.jsonl", {"step": 402})
    found.rows()
    assert read[2:] == ["first"]


def test_a_run_that_takes_long_to_read_is_read_seldom(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contrast.dashboard import listing

    clock, read = [0.0], []

    def slowly(run: Any, scalars: Any) -> Any:
        clock[0] += 2  # seconds
        read.append(clock[0])
        return summarise(run, scalars)

    summarise: Callable[..., Any] = listing.summarise
    monkeypatch.setattr(listing, "summarise", slowly)
    monkeypatch.setattr(listing.time, "monotonic", lambda: clock[0])
    shutil.rmtree(runs / "sweep")
    found = Listing(RunsFolder(runs))
    for _ in range(100):
        append_row(runs / "first/metrics.jsonl", {"step": 403 + len(read)})
        found.rows()
        clock[0] += 1
    assert 2 < len(read) < 6, "a twentieth of the time"


def test_runs_come_and_go_while_listed(dashboard: Dashboard, runs: Path) -> None:
    assert set(dashboard.rows()) == {"first", AWKWARD}
    shutil.rmtree(runs / "first")
    write_run(runs / "third", Shape(snapshots=1, epochs=1))
    assert set(dashboard.rows()) == {"third", AWKWARD}
    assert dashboard.get("/run/first").code == 404
    assert dashboard.get("/state.json?run=first").code == 404
    shutil.rmtree(runs)
    assert dashboard.rows() == {}
    assert "No runs here yet" in dashboard.get("/").text


def test_a_folder_without_runs_says_how_to_make_one(tmp_path: Path) -> None:
    with serving(tmp_path) as dashboard:
        page = Page(dashboard.get("/").text)
    assert "No runs here yet" in page.text
    assert f"contrast pretrain --run {tmp_path}/first" in page.text
    assert not next(part for part in page.named("div") if part.get("id") == "none").keys() & {"hidden"}


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "scores.jsonl", "status.json", "evaluations/e.json"])
@pytest.mark.parametrize("content", [b"", b'{"step": 1, "ep', b"\xff\xfe\x00", b"[1, 2]", b"null", b"- \x00"])
def test_a_run_half_written_is_listed_and_shown(name: str, content: bytes, dashboard: Dashboard, runs: Path) -> None:
    (runs / "first" / name).write_bytes(content)
    assert "first" in dashboard.rows()
    for path in ("/", "/run/first", "/compare?run=first&run=sweep/seed%201%20%23%3F%25%26", "/state.json?run=first"):
        assert dashboard.get(path).code == 200, path


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "scores.jsonl", "status.json", "evaluations/e.json"])
@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"step": 1' + 400 * b"0" + b', "epoch": 1' + 400 * b"0" + b', "top1": 1' + 400 * b"0" + b"}",
        b'{"step": 1e300, "epoch": 1e300, "train/loss": -1e308, "online/knn_top1": 1e308, "edges": [0, 1e308]}',
        b'{"step": {}, "epoch": [], "edges": {}, "positive": [], "command": [], "top1_interval": [{}, 1]}',
        b"model: &model {init_args: *model}\ntrainer: [*model]\n",
    ],
)
def test_what_no_run_writes_spoils_no_other_run(name: str, content: bytes, dashboard: Dashboard, runs: Path) -> None:
    (runs / "first" / name).write_bytes(content)
    assert AWKWARD in dashboard.rows()
    for path in ("/", "/run/first", "/compare?run=first&run=sweep/seed%201%20%23%3F%25%26", "/state.json?run=first"):
        assert dashboard.get(path).code in (200, 404), path


def test_hostile_names_and_values_stay_text(runs: Path) -> None:
    attack = '"><img src=x onerror=alert(1)>'
    path = write_run(runs / attack, Shape(snapshots=2, epochs=1, method='X"><script>alert(1)</script>'))
    write_status(path / "status.json", said(state="failed", message=attack))
    with serving(runs) as dashboard:
        pages = [dashboard.get("/").text, dashboard.get("/run/%22%3E%3Cimg%20src=x%20onerror=alert(1)%3E").text]
    for page in map(Page, pages):
        assert not page.named("img")
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert "alert(1)" in page.text
        assert len(page.named("script")) in (3, 4), "the page's own"


def test_the_list_loads_nothing_from_elsewhere(dashboard: Dashboard) -> None:
    page = Page(dashboard.get("/").text)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action"):
            target = attributes.get(name)
            assert target is None or target == "data:," or re.match(r"/(?!/)", target), f"<{tag} {name}={target!r}>"
        assert not {name for name in attributes if name == "style" or name.startswith("on")}
    style = dashboard.get("/assets/list.css").text
    assert "url(" not in style
    assert "@import" not in style
    assert "http" not in dashboard.get("/assets/list.js").text


def test_a_collapsed_run_is_not_a_green_finished(runs: Path) -> None:
    """The doctor's worst finding stands beside the word, and the mark takes its colour."""
    rows = [{"step": step, "embedding": {"uniformity": -0.01, "width": 64}} for step in range(1, 9)]
    write_rows(runs / "first/scores.jsonl", rows)
    write_status(runs / "first/status.json", said(state="finished", step=20_000))
    write_status(runs / AWKWARD / "status.json", said(state="finished"))
    with serving(runs) as dashboard:
        row, well = (dashboard.rows()[name]["html"] for name in ("first", AWKWARD))
        page = dashboard.get("/run/first").text
        style = dashboard.get("/assets/list.css").text
    assert 'class="standing finished problem"' in row
    assert 'class="finding problem" href="/run/first#findings" title="Embeddings are near one point' in row
    assert 'data-finding="collapse"' in row
    assert 'id="findings"' in page
    assert 'class="standing finished"' in well
    assert ".standing.finished.problem { --state: var(--run-1); }" in style


@pytest.mark.parametrize(
    "name",
    ["two\nlines", "end\n", "\nstart", "car\rriage", "both\r\n", "a%0Ab", "%2F", "%", "#", "?run=x",
     "a&b", 'q"u\'o', "<i>",
     "-dash", "--help", "ünï→文", "tab\there", " space ", "back\\slash", "a;b", "plus+", "~", "colon:", "{brace}", "*"],
)  # fmt: skip
def test_a_run_of_any_name_is_found_by_its_link(name: str, tmp_path: Path) -> None:
    """Also below a folder of such a name, in a comparison, and as a browser's form sends its line breaks."""
    for each in (name, f"{name}/inner"):
        write_run(tmp_path / "runs" / each.replace(name, f"{name}x", 1) if "/" in each else tmp_path / "runs" / name,
                  Shape(snapshots=1, epochs=1))  # fmt: skip
    with serving(tmp_path / "runs") as dashboard:
        rows = dashboard.rows()
        assert set(rows) == {name, f"{name}x/inner"}
        for each, row in rows.items():
            (link,) = (part for part in Page(row["html"]).named("a") if part.get("data-part") == "link")
            assert dashboard.get(str(link["href"])).code == 200
            (box,) = (part for part in Page(row["html"]).named("input"))
            assert box["value"] == each
            as_form = quote(re.sub("\r\n|\r|\n", "\r\n", each), safe="")
            for path in (f"/compare?run={as_form}", f"/state.json?run={quote(each, safe='')}"):
                assert dashboard.get(path).code == 200, path
