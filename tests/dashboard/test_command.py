"""`contrast dashboard` as a command."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from contrast.cli import main
from tests.dashboard.serving import command


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line in which the command refuses."""
    assert main(["dashboard", *map(str, arguments)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("contrast dashboard: error: ")
    return line


def test_it_serves_until_ctrl_c_and_ends_without_a_word(runs: Path) -> None:
    with command(runs) as (dashboard, process):
        assert "first" in dashboard.rows()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    assert (process.returncode, out, error) == (0, "", "")


def test_it_listens_on_this_machine_alone(runs: Path) -> None:
    with command(runs) as (dashboard, process):
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        addresses = [line[1].split(":")[0] for line in listening if int(line[1].split(":")[1], 16) == dashboard.port]
        process.send_signal(signal.SIGINT)
    assert set(addresses) == {"0100007F"}, "127.0.0.1 as the kernel writes it"


def test_with_a_host_it_warns_once_and_answers_to_any_name(runs: Path) -> None:
    with command(runs, "--host", "0.0.0.0") as (dashboard, process):
        assert dashboard.get("/runs.json", Host="a.name.of.this.machine").code == 200
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    (line,) = error.splitlines()
    assert line.startswith("contrast dashboard: warning: anyone who reaches this machine can read the runs")


def test_a_port_in_use(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} is in use: give another with --port" in refused(capsys, runs, "--port", port)


@pytest.mark.parametrize("port", ["65536", "-1", "abc", "80.5", "", "9" * 5000, "٣"])
def test_what_is_no_port(port: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, runs, f"--port={port}")
    assert f"--port {port!r}"[:500] in line  # a line is no longer than can be read
    assert "is not a port: give 1024 to 65535" in line


def test_what_is_no_address_of_this_machine(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("192.0.2.1", "no such host", ""):
        line = refused(capsys, runs, "--port", "0", "--host", host)
        assert f"--host {host!r} is not an address" in line
        assert "leave it out" in line


def test_what_is_no_folder_of_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give the folder that holds your runs" in refused(capsys, runs / "none")
    assert "is a file: give the folder" in refused(capsys, runs / "first/config.yaml")
    assert f"is one run: give the folder that holds it, '{runs}'" in refused(capsys, runs / "first")


def test_no_model_code_is_loaded() -> None:
    code = (
        "import sys, contrast.commands.dashboard, contrast.dashboard\n"
        "heavy = ('torch', 'lightning', 'contrast.losses', 'contrast.callbacks')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
