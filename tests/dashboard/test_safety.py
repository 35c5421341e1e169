"""Nothing outside the folder is shown, nobody else's page may ask, and nothing can be changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from contrast.dashboard.runs_folder import RunsFolder
from tests.dashboard.conftest import SMALL
from tests.dashboard.serving import Dashboard, serving
from tests.report.synthetic import write_run

OUTSIDE = [
    "..", "../outside", "first/../../outside", "%2e%2e/outside", "%2e%2e%2foutside", "..%2Foutside", "%2E%2E%2Foutside",
    "..%252foutside", "....//outside", "..\\outside", "..%5coutside", "{outside}", "/{outside}", "%2F{outside}",
    "first%00", "%00", "first/%00/../../outside", "./first", "first/.", "first/", "/first", "first//", "sweep/../first",
    "link", "link/", "inner-link", "sweep/link", "hidden-link", ".", "", "first/config.yaml", "first/evaluations",
    "notes", "first%0ax",
    "~", "%ff", "a" * 5000, "a/" * 500, "first?x=1/../../outside", "CON", "%c0%ae%c0%ae/outside",
]  # fmt: skip


@pytest.fixture
def outside(runs: Path) -> Path:
    """A run beside the folder, and links to it from within."""
    path = write_run(runs.parent / "outside", SMALL)
    (runs / "link").symlink_to(path)
    (runs / "sweep/link").symlink_to("../../outside")
    (runs / "inner-link").symlink_to(runs / "first")
    (runs / "hidden-link").symlink_to(runs.parent)
    return path


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leads_out_of_the_folder(name: str, dashboard: Dashboard, outside: Path) -> None:
    name = name.format(outside=outside) if "{" in name else name
    for path in (f"/run/{name}", f"/compare?run={name}", f"/compare?run=first&run={name}", f"/state.json?run={name}"):
        if name.startswith("first?") and not path.startswith("/compare"):
            continue  # a question mark ends the path
        answer = dashboard.get(path)
        assert answer.code == 404, path
        assert b"0.861" not in answer.body


def test_links_are_not_listed(dashboard: Dashboard, outside: Path) -> None:
    assert set(dashboard.rows()) == {"first", "sweep/seed 1 #?%&"}


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "scores.jsonl", "status.json", "evaluations"])
def test_a_run_with_a_file_from_outside_is_none(name: str, dashboard: Dashboard, runs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir() if name == "evaluations" else secret.write_text("token: abc\n")
    here = runs / "first" / name
    if here.exists():
        here.rename(tmp_path / "moved")
    here.symlink_to(secret)
    assert "first" not in dashboard.rows()
    assert dashboard.get("/run/first").code == 404
    assert b"abc" not in dashboard.get("/").body


def test_checkpoints_may_lie_elsewhere_and_the_folder_itself_may_be_a_link(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (runs / "first/checkpoints").symlink_to(tmp_path / "disk")
    (runs / "first/nothing").symlink_to(runs / "none")
    (tmp_path / "linked").symlink_to(runs)
    assert "first" in RunsFolder(tmp_path / "linked").names()
    assert RunsFolder(tmp_path / "linked").run("first") is not None


def test_files_are_served_by_name_alone(dashboard: Dashboard) -> None:
    assert dashboard.get("/assets/list.js").headers["content-type"].startswith("text/javascript")
    assert dashboard.get("/assets/list.css").headers["content-type"].startswith("text/css")
    for name in ("list.html", "../app.py", "%2e%2e%2fapp.py", "page.css", "..", ""):
        assert dashboard.get(f"/assets/{name}").code == 404, name
    for path in ("/first/config.yaml", "/runs/first", "/static", "//evil.example/", "/run", "/docs", "/favicon.ico"):
        assert dashboard.get(path).code == 404, path


STRANGERS = ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil", "", "0.0.0.0"]


@pytest.mark.parametrize("host", STRANGERS)
def test_a_name_that_is_not_this_machines_gets_no_answer(host: str, dashboard: Dashboard) -> None:
    for path in ("/", "/runs.json", "/run/first", "/state.json?run=first", "/assets/list.js"):
        answer = dashboard.get(path, Host=host.format(port=dashboard.port))
        assert answer.code == 400
        assert b"first" not in answer.body


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_this_machines_names_get_one(host: str, dashboard: Dashboard) -> None:
    assert dashboard.get("/runs.json", Host=f"{host}:{dashboard.port}").code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_sent(method: str, dashboard: Dashboard) -> None:
    for path in ("/", "/runs.json", "/run/first", "/compare?run=first", "/state.json?run=first", "/assets/list.js"):
        answer = dashboard.get(path, method)
        assert answer.code == 405
        assert "access-control-allow-origin" not in answer.headers


def test_head_is_get_without_a_body(dashboard: Dashboard) -> None:
    asked, got = dashboard.get("/run/first", "HEAD"), dashboard.get("/run/first")
    assert (asked.code, asked.body, asked.headers["etag"]) == (200, b"", got.headers["etag"])


def test_every_answer_has_a_policy(dashboard: Dashboard) -> None:
    for path in ("/", "/runs.json", "/assets/list.js", "/run/none", "/nowhere"):
        headers = dashboard.get(path).headers
        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
    for path in ("/run/first", "/compare?run=first"):
        answer = dashboard.get(path)
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
        assert "default-src 'none'; connect-src 'self'; script-src" in answer.text
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    refused = dashboard.get("/", Host="evil.example").headers
    assert "default-src 'none'" in refused["content-security-policy"]


def test_nothing_is_written(runs: Path) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [runs, *runs.rglob("*")]}

    before = state()
    with serving(runs) as dashboard:
        for path in ("/", "/runs.json", "/run/first", "/state.json?run=first", "/compare?run=first"):
            assert dashboard.get(path).code == 200
    assert state() == before
