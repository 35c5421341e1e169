"""The built package: what is in it, and that it works where there is no checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from contrast.records import read_rows

ROOT = Path(__file__).parents[1]


def quiet(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run; its standard output."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the checkout, so that nothing is left in it, with the builder of this environment."""
    copy = tmp_path_factory.mktemp("wheel") / "checkout"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("contrast", "configs", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    quiet(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "..", cwd=copy)
    (built,) = copy.parent.glob("contrast-*-py3-none-any.whl")
    return built


def test_it_holds_the_package_and_its_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        entries = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "contrast = contrast.cli:main" in archive.read(entries).decode()
    files = {path.relative_to(ROOT) for path in (ROOT / "contrast").rglob("*") if path.is_file()}
    package = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    configs = {f"contrast/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert {"contrast/configs/demo.yaml", "contrast/report/assets/page.html"} <= package | configs
    assert inside == package | configs


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A virtual environment outside the checkout: the wheel, and this environment's other packages by their path."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv/bin/python"
    install = ("install", "--quiet", "--no-deps", "--no-index", "--no-compile")
    quiet(sys.executable, "-m", "pip", "--python", python, *install, wheel, cwd=folder)
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    # A path alone: the .pth files over there, among them the one of an editable checkout, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "empty").mkdir()
    yield folder
    shutil.rmtree(folder / "venv")


def installed(elsewhere: Path, here: Path, *command: str | Path) -> str:
    """Run a program of the virtual environment in a folder; its standard output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return quiet(elsewhere / "venv/bin" / command[0], *command[1:], cwd=here, env=clean)


def test_the_embedded_demo_trains_and_is_reported_in_an_empty_folder(elsewhere: Path) -> None:
    here = elsewhere / "empty"

    def said(*command: str | Path) -> str:
        return installed(elsewhere, here, *command)

    origin = said("python", "-c", "import contrast; print(contrast.__file__)").strip()
    assert Path(origin).is_relative_to(elsewhere / "venv")
    assert said("contrast", "--help").startswith("usage: contrast COMMAND")
    assert said("contrast", "--version") == f"contrast {version('contrast')}\n"
    said("contrast", "pretrain", "--trainer.max_epochs", "1")
    (run,) = (here / "runs").iterdir()
    assert run.name.startswith("simclr-")
    assert read_rows(run / "metrics.jsonl")
    assert (run / "checkpoints/last.ckpt").is_file()
    page = Path(said("contrast", "report", run).strip())
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in here.iterdir()] == ["runs"]


def test_a_grid_is_compared_where_there_is_no_checkout(elsewhere: Path) -> None:
    here = elsewhere / "compared"
    here.mkdir()
    flags = "{trainer.max_epochs: 1, data.limit: 96, data.batch_size: 32, model.backbone.widths: [4, 8]}"
    common = f"{{files: [configs/demo.yaml, configs/compare/amcl.yaml], flags: {flags}}}"
    evaluate = "{per_class: 2, neighbours: 5, splits: 1}"
    (here / "one.yaml").write_text(f"common: {common}\nseeds: [0]\nrows: {{SimCLR: }}\nevaluate: {evaluate}\n")
    said = installed(elsewhere, here, "contrast", "compare", "one.yaml")
    assert "(majority class)" in said
    out = here / "runs/compare/one"
    table = json.loads((out / "table.json").read_text())
    assert table["unfinished"] == []
    assert table["commits"] == [f"version {version('contrast')}"]
    assert (out / "table.html").read_text().startswith("<!DOCTYPE html>")
    assert f"`contrast compare one.yaml`, version {version('contrast')}, seeds 0" in (out / "table.md").read_text()
    assert sorted(path.name for path in here.iterdir()) == ["one.yaml", "runs"]
