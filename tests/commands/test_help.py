"""What `--help` says, and that it says so at once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from contrast.cli import COMMANDS, main
from contrast.commands.class_names import SLOTS, choices

ROOT = Path(__file__).parents[2]

HEAVY = (
    *("torch", "torchvision", "lightning", "jsonargparse", "numpy", "sklearn", "faiss", "wandb", "altair"),
    *("starlette", "uvicorn"),
)
REPORT_LOADED = f"""
import sys
from contrast.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(code, [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""

OPTIONS = {
    "pretrain": ["--config", "--run", "--resume", "--print_config"],
    "probe": ["RUN", "--data", "--weights", "--backbone", "--output", "--fraction", "--per-class", "--finetune"],
    "knn": ["RUN", "--data", "--weights", "--backbone", "--output", "--neighbours", "--temperature"],
    "duplicates": ["RUN", "--data", "--weights", "--backbone", "--output", "--threshold", "--neighbours"],
    "report": ["RUN", "--output"],
    "doctor": ["RUN", "--json"],
    "dashboard": ["RUNS_FOLDER", "--host", "--port"],
    "compare": ["GRID", "--out", "--jobs", "--threads", "--docs", "--figure", "--metric", "--html"],
    "export": ["RUN", "--output"],
    "demo": ["--run", "--config"],
}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_comes_without_the_libraries_that_take_seconds(arguments: list[str]) -> None:
    done = run("-c", REPORT_LOADED, *arguments)
    assert done.stderr == "0 []\n"
    assert done.stdout.startswith("usage: contrast ")


def test_a_library_that_is_loaded_would_be_seen() -> None:
    assert run("-c", f"import numpy\n{REPORT_LOADED}", "--help").stderr == "0 ['numpy']\n"


def test_every_command_is_listed_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for name, line in COMMANDS.items():
        assert f"  {name} " in said
        assert line in said


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_lists_its_options_and_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    usage, _, examples = said.partition("example")
    for option in OPTIONS[name]:
        assert option in usage
    assert f"  contrast {name}" in examples


def test_pretrain_lists_the_classes_of_every_slot(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["pretrain", "--help"])
    _, _, said = capsys.readouterr().out.partition("Classes by their short names")
    listed = dict(re.findall(r"^  (\w+) +(\S.*)$", said.partition("\n\n")[0], re.MULTILINE))
    for slot in ("model", "objective", "temperature", "backbone", "head", "bank", "views", "train"):
        assert listed[slot].split(", ") == choices(slot)
    assert {"MoCo", "SimCLR"} <= set(choices("model"))
    assert {"DCL", "DCLW", "InfoNCE"} <= set(choices("objective"))


def test_the_classes_read_from_the_sources_are_those_there_are() -> None:
    """`choices` never imports the package; what it finds is what importing it finds."""
    import inspect

    from contrast import banks, data, losses, methods, models, optim

    for slot, base in SLOTS.items():
        if base == "Dataset":
            continue
        (parent,) = {getattr(place, base) for place in (banks, data, losses, methods, models, optim)
                     if hasattr(place, base)}  # fmt: skip
        found = {
            name
            for place in (banks, data, losses, methods, models, optim)
            for name, value in inspect.getmembers(place, inspect.isclass)
            if issubclass(value, parent) and not inspect.isabstract(value)
        }
        assert set(choices(slot)) == found - {base}, slot


def test_the_arguments_of_one_class(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["pretrain", "--model.help", "MoCo"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    for option in ("momentum", "symmetric", "batch_norm_groups", "bank", "backbone", "head", "loss", "rate_scaling"):
        assert f"--model.{option} " in said
    assert "share of itself that the key encoder keeps" in " ".join(said.split())


def test_python_dash_m_is_the_command() -> None:
    as_module = run("-m", "contrast", "--help")
    as_script = subprocess.run([Path(sys.executable).parent / "contrast", "--help"], capture_output=True, text=True)
    assert as_module.returncode == as_script.returncode == 0
    assert as_module.stdout == as_script.stdout
    assert run("-m", "contrast", "pretrian").returncode == 2
