"""The page of a run and of several: the report's own, kept while nothing changes, and whole while a run writes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from contrast.dashboard import pages as report_pages
from contrast.dashboard.pages import ReportPages, rows_written
from contrast.dashboard.runs_folder import RunsFolder
from contrast.records import append_row
from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from contrast.runs.status import write_status
from tests.dashboard.serving import Dashboard
from tests.dashboard.test_list import AWKWARD, said
from tests.report.reading import Page

BOTH = "/compare?run=first&run=sweep%2Fseed+1+%23%3F%25%26"


def report_of(*paths: Path) -> Page:
    return Page(build_page(read_runs([RunFolder(path) for path in paths])))


def test_a_runs_page_is_its_report(dashboard: Dashboard, runs: Path) -> None:
    served, report = Page(dashboard.get("/run/first").text), report_of(runs / "first")
    assert served.data == report.data
    assert served.rows == report.rows
    assert served.text.partition("Overview")[2].split() == report.text.partition("Overview")[2].split()
    assert len(served.scripts) == len(report.scripts) + 1, "the bar's"


def test_runs_are_compared_in_the_order_asked_for_and_once(dashboard: Dashboard, runs: Path) -> None:
    served = Page(dashboard.get(f"{BOTH}&run=first").text)
    assert served.data == report_of(runs / "first", runs / AWKWARD).data
    assert "2 runs compared" in served.text
    (bar,) = [part for part in served.named("div") if part.get("class") == "served"]
    assert f"/compare?{bar['data-query']}" == BOTH


def test_a_comparison_of_nothing_and_of_a_run_that_is_none(dashboard: Dashboard) -> None:
    for path in ("/compare", "/compare?run=", "/compare?run=first&run=none", "/state.json"):
        answer = dashboard.get(path)
        assert answer.code == 404, path
        assert Page(answer.text).named("a")[0]["href"] == "/"


def test_the_bar_is_told_where_the_runs_are_and_what_is_new(dashboard: Dashboard, runs: Path) -> None:
    write_status(runs / "first/status.json", said())
    (bar,) = [part for part in Page(dashboard.get("/run/first").text).named("div") if part.get("class") == "served"]
    state = dashboard.get("/state.json?run=first").json
    assert state["rows"] == int(bar["data-rows"] or 0) == rows_written([RunFolder(runs / "first")]) > 40
    (run,) = state["runs"]
    assert (run["name"], run["standing"], run["share"]) == ("first", "running", 0.06)
    assert run["words"] == "step 1,200 of 20,000 · epoch 3 of 50"
    append_row(runs / "first/metrics.jsonl", {"step": 400, "train/loss": 1.0})
    assert dashboard.get("/state.json?run=first").json["rows"] == state["rows"] + 1


def test_a_page_is_built_anew_only_where_its_files_changed(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    monkeypatch.setattr(report_pages, "build_page", lambda read, around: built.append(len(read)) or "page")
    pages = ReportPages(RunsFolder(runs))
    first = pages.page(["first"])
    write_status(runs / "first/status.json", said())
    (runs / "first/report.html").write_text("another page")
    assert pages.page(["first"]) is first
    assert built == [1]
    append_row(runs / "first/scores.jsonl", {"step": 400})
    later = pages.page(["first"])
    assert later is not None
    assert later.tag != first.tag  # type: ignore[union-attr]  # it was there
    assert pages.page(["first", AWKWARD]) is not None
    assert built == [1, 1, 2]


def test_one_page_is_built_once_for_many_who_ask(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    monkeypatch.setattr(report_pages, "build_page", lambda *_: (time.sleep(0.2), built.append(1), "page")[-1])
    pages = ReportPages(RunsFolder(runs))
    threads = [threading.Thread(target=pages.page, args=(["first"],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_few_pages_are_kept(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_pages, "build_page", lambda *_: "page")
    pages = ReportPages(RunsFolder(runs))
    for number in range(40):
        append_row(runs / "first/metrics.jsonl", {"step": 400 + number})
        pages.page(["first"])
    assert len(pages._pages) == report_pages.MOST_PAGES


def test_the_browser_keeps_a_page_too(dashboard: Dashboard, runs: Path) -> None:
    tag = dashboard.get("/run/first").headers["etag"]
    assert dashboard.get("/run/first", If_None_Match=tag).code == 304
    append_row(runs / "first/metrics.jsonl", {"step": 400})
    assert dashboard.get("/run/first", If_None_Match=tag).code == 200


def test_the_list_answers_while_a_page_is_built(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    building, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(report_pages, "build_page", lambda *_: (building.set(), go_on.wait(20), "page")[-1])
    asking = threading.Thread(target=dashboard.get, args=("/run/first",))
    asking.start()
    assert building.wait(60)
    assert set(dashboard.rows()) == {"first", AWKWARD}
    assert asking.is_alive(), "the page is still being built"
    go_on.set()
    asking.join()


WRITER = """
import json, sys, time
metrics, scores = (open(sys.argv[1] + "/" + name, "ab", buffering=0) for name in ("metrics.jsonl", "scores.jsonl"))
print("writing", flush=True)
for step in range(400, 100_000):
    for file, row in ((metrics, {"step": step, "epoch": 2, "train/loss": 1.0}), (scores, {"step": step, "epoch": 2})):
        line = json.dumps(row).encode() + b"\\n"
        file.write(line[: len(line) // 2])  # a reader may come here
        time.sleep(0.001)
        file.write(line[len(line) // 2 :])
"""


def test_a_run_is_read_while_another_process_is_in_the_middle_of_a_line(dashboard: Dashboard, runs: Path) -> None:
    code = [sys.executable, "-c", WRITER, str(runs / "first")]
    with subprocess.Popen(code, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        failures: list[str] = []

        def read(paths: tuple[str, ...]) -> None:
            for number in range(6):
                path = paths[number % len(paths)]
                answer = dashboard.get(path)
                if answer.code != 200:
                    failures.append(f"{path}: {answer.code}")

        asking = [("/runs.json",), ("/", "/state.json?run=first"), ("/run/first", BOTH)]
        threads = [threading.Thread(target=read, args=(paths,)) for paths in asking]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.poll() is None, "it wrote all the while"
        writer.kill()
    assert failures == []
    assert json.loads(dashboard.get("/state.json?run=first").body)["runs"][0]["step"] > 400
