"""`contrast report` as a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from contrast.commands.report import main
from contrast.errors import InputError
from tests.report.synthetic import Shape, write_run


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [write_run(tmp_path / name, Shape(snapshots=3, epochs=2)) for name in ("a", "b")]


def test_one_run_keeps_its_page(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(runs[0])]) == 0
    assert capsys.readouterr().out == f"{runs[0] / 'report.html'}\n"
    assert (runs[0] / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_several_runs_are_compared_where_one_stands(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs[0].parent)
    assert main(["a", "b"]) == 0
    assert "2 runs compared" in Path("comparison.html").read_text()
    assert not (runs[0] / "report.html").exists()


def test_runs_of_the_same_name_are_told_apart(runs: list[Path], tmp_path: Path) -> None:
    other = write_run(tmp_path / "other" / "a", Shape(snapshots=3, epochs=2))
    main([str(runs[0]), str(other), "--output", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert "<strong>other/a</strong>" in page
    assert f"<strong>{tmp_path.name}/a</strong>" in page


def test_wrong_input_is_named(runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = str(runs[0])
    for arguments, message in {
        (str(tmp_path / "nowhere"),): "no run folder",
        (str(tmp_path / "empty"),): "has no config.yaml",
        (run, f"{run}/../a"): "given twice",
        (run, "--output", str(tmp_path)): "is a folder",
        (run, "--output", str(tmp_path / "no" / "page.html")): "does not exist",
    }.items():
        with pytest.raises(InputError, match=message):
            main(list(arguments))


def test_help_ends_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "contrast report runs/simclr" in capsys.readouterr().out


def test_no_model_code_is_loaded(runs: list[Path]) -> None:
    code = (
        "import sys; from contrast.commands.report import main; main(sys.argv[1:]);"
        "print([name for name in ('torch', 'lightning', 'contrast.losses', 'contrast.models') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(runs[0])], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
