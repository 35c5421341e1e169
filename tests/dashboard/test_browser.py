"""The dashboard in a browser: drawn, live, kept in the address, silent on the console, and asking nobody else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from contrast.records import append_row
from contrast.runs.status import write_status
from tests.browsing import browser_program
from tests.dashboard.serving import command
from tests.dashboard.test_list import AWKWARD, said
from tests.harness.browser import Browser
from tests.report.synthetic import Shape, write_run

DRAWN = "document.documentElement?.dataset.drawn"
NAMES = "[...document.querySelectorAll('#rows tr:not([hidden]) [data-part=link]')].map(link => link.textContent)"
LINK = "document.querySelector(`[data-name='first'] [data-part=link]`)"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """What it said and whom it asked is looked at in the end."""
    with Browser(browser_program(), tmp_path / "profile") as found:
        yield found


def kept_to(browser: Browser, address: str) -> None:
    """Nothing on the console, no policy broken, no request to anybody else."""
    assert browser.said == []
    elsewhere = [asked for asked in browser.asked if not asked.startswith((f"{address}/", "data:", "blob:", "about:"))]
    assert elsewhere == []


def test_the_list_follows_the_runs(browser: Browser, runs: Path) -> None:
    with command(runs) as (dashboard, process):
        browser.open(f"{dashboard.address}/")
        assert browser.value(NAMES) == [AWKWARD, "first"] or browser.value(NAMES) == ["first", AWKWARD]
        browser.until("/( ago|just now)$/.test(document.querySelector('time').textContent)")
        browser.value("void document.querySelectorAll('#rows tr').forEach(row => { row.kept = true; })")
        browser.value(f"document.querySelector(`[value='first']`).click(), {LINK}.focus()")
        write_status(runs / "first/status.json", said())
        append_row(runs / "first/metrics.jsonl", {"step": 400, "epoch": 2, "online/knn_top1": 0.5})
        browser.until("document.querySelector(`[data-name='first']`).dataset.standing === 'running'")
        changed = (
            "JSON.stringify([...document.querySelectorAll('#rows tr')].map(row => [row.dataset.name, !!row.kept]))"
        )
        assert browser.value(changed) == f'[["first",false],["{AWKWARD}",true]]', (
            "only what changed is made anew, on top"
        )
        assert browser.value("document.querySelector(`[value='first']`).checked"), "a tick stays"
        assert browser.value(f"document.activeElement === {LINK}"), "and so does the focus"
        assert browser.value("document.getElementById('news').textContent") == "first: running"
        shutil.rmtree(runs / "first")
        write_run(runs / "third", Shape(snapshots=1, epochs=1))
        browser.until(f"{NAMES}.join() === 'third,{AWKWARD}'")
        kept_to(browser, dashboard.address)
        process.kill()
        process.wait()
        browser.until("!document.getElementById('lost').hidden")
        assert "has not answered since" in browser.value("document.getElementById('lost').textContent")


def test_filter_and_order_are_kept_in_the_address(browser: Browser, runs: Path) -> None:
    write_run(runs / "second", Shape(snapshots=1, epochs=1, accuracy=0.5, objective="DCLW"))
    with command(runs) as (dashboard, _):
        browser.open(f"{dashboard.address}/#sort=accuracy&down=1")
        assert browser.value(NAMES)[-1] == "second"
        browser.value("document.querySelector('[data-sort=accuracy] button').click()")
        assert browser.value(NAMES)[0] == "second", "the other way round"
        assert browser.value("document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "ascending"
        browser.value("document.querySelector('[data-sort=name] button').focus()")
        browser.press("Enter")
        assert browser.value("location.hash") == "#sort=name"
        assert browser.value(NAMES) == ["first", "second", AWKWARD]
        field = "document.getElementById('filter')"
        browser.value(f"{field}.value = 'DCL simclr', {field}.dispatchEvent(new Event('input'))")
        assert browser.value(NAMES) == ["second"]
        assert browser.value("document.getElementById('count').textContent") == "1 of 3 runs"
        assert browser.value("location.hash") == "#sort=name&filter=DCL+simclr"
        browser.value("window.old = true, location.reload()")
        browser.until(f"window.old === undefined && document.readyState === 'complete' && {NAMES}.join() === 'second'")
        browser.value(f"{field}.value = 'nothing', {field}.dispatchEvent(new Event('input'))")
        assert browser.value("document.getElementById('filtered').hidden") is False
        kept_to(browser, dashboard.address)


def test_a_runs_page_is_drawn_and_says_what_is_new(browser: Browser, runs: Path) -> None:
    write_status(runs / "first/status.json", said())
    with command(runs) as (dashboard, _):
        browser.open(f"{dashboard.address}/#theme=dark&sort=name")
        browser.until(f"{LINK}.href.endsWith('/run/first#theme=dark')")
        browser.value(f"{LINK}.click()")
        browser.until(DRAWN)
        assert browser.value("[...document.querySelectorAll('[data-chart]')].every(chart => chart.dataset.marks > 1)")
        browser.until("document.querySelector('.served .standing')?.textContent === 'running'")
        assert "step 1,200 of 20,000" in browser.value("document.querySelector('.served').textContent")
        browser.value("chooseStep(200)")
        append_row(runs / "first/metrics.jsonl", {"step": 400, "train/loss": 1.0})
        browser.until("document.getElementById('served-words').textContent === 'new rows: 1'")
        browser.value("window.old = true, document.getElementById('served-refresh').click()")
        browser.until(f"window.old === undefined && {DRAWN}")
        assert browser.value("location.hash") == "#theme=dark&step=200", "the slider's place"
        browser.until("document.getElementById('served-words').textContent === 'no new rows yet'")
        assert browser.value("document.getElementById('served-refresh').hidden")
        browser.value("document.getElementById('served-back').focus()")
        browser.press("Enter")
        browser.until(f"location.pathname === '/' && location.hash === '#theme=dark&sort=name' && {NAMES}.length === 2")
        kept_to(browser, dashboard.address)


def test_a_page_refreshes_by_itself_where_asked_to(browser: Browser, runs: Path) -> None:
    write_status(runs / "first/status.json", said())
    with command(runs) as (dashboard, _):
        browser.open(f"{dashboard.address}/run/first")
        browser.until(f"{DRAWN} && !document.getElementById('served-following').hidden")
        browser.value("window.old = true, document.getElementById('served-follow').click()")
        append_row(runs / "first/metrics.jsonl", {"step": 400, "train/loss": 1.0})
        browser.until(f"window.old === undefined && {DRAWN}", seconds=60)
        assert browser.value("document.getElementById('served-follow').checked"), "it goes on doing so"
        kept_to(browser, dashboard.address)


def test_ticked_runs_are_compared(browser: Browser, runs: Path) -> None:
    with command(runs) as (dashboard, _):
        browser.open(f"{dashboard.address}/")
        assert browser.value("document.getElementById('compare').disabled")
        browser.value("document.querySelectorAll('[data-part=tick]').forEach(tick => tick.click())")
        assert browser.value("document.getElementById('compare').textContent") == "Compare 2 runs"
        browser.value("document.getElementById('compare').click()")
        browser.until(f"location.pathname === '/compare' && {DRAWN}")
        browser.until("document.querySelectorAll('.served li').length === 2")
        assert "2 runs compared" in browser.value("document.title")
        kept_to(browser, dashboard.address)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["/", "/run/first", "/compare?run=first&run=long", "/run/none"])
def test_nothing_is_wider_than_the_window(width: int, path: str, browser: Browser, runs: Path) -> None:
    write_run(runs / "long", Shape(snapshots=2, epochs=1)).rename(runs / ("a-long-name-" * 8))
    write_run(runs / "long", Shape(snapshots=2, epochs=1))
    write_status(runs / ("a-long-name-" * 8) / "status.json", said(state="failed", message="x" * 400))
    with command(runs) as (dashboard, _):
        browser.resize(width, 900)
        browser.open(f"{dashboard.address}{path}")
        if path.startswith(("/run/first", "/compare")):
            browser.until(f"{DRAWN} && !!document.querySelector('.served li')")
        assert browser.value("document.documentElement.scrollWidth") <= width
