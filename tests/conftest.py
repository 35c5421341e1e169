"""Every test runs with the shapes of public signatures checked (jaxtyping by beartype)."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

import tests.shapes  # noqa: F401  # the hook names it and expects it to be loaded


def _load_kernels() -> None:
    """Load the file of kernels past the hook below, which would wrap what Triton reads as text."""
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read where kernels are defined: they then run on a CPU, slowly
    name = "contrast.losses._kernels"
    file = Path(__file__).parents[1] / "contrast/losses/_kernels.py"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


_load_kernels()
install_import_hook("contrast", "tests.shapes.check")

os.environ.setdefault("WANDB_MODE", "offline")
# Small tensors gain nothing from threads, and several test processes would fight over the cores.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

GOLDEN = Path(__file__).parent / "golden"

_LONG = (
    *("commands/test_shipped_configs.py", "commands/test_stopping.py", "harness/test_process_matrix.py"),
    *("fuzz/test_files_found.py", "dashboard/test_list.py", "commands/test_processes_of_runs.py"),
    *("fuzz/test_safety.py", "fuzz/test_fuzz.py", "commands/test_series.py", "losses/test_low_precision.py"),
    *("observation/test_observe.py", "report/test_real_runs.py", "harness/test_exact.py", "commands/test_compare.py"),
)
"""Files that take longest, longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files come first: processes that take file after file end at about the same time then.

    Tests marked gpu are skipped where no CUDA device is, and say so.
    """
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    place = {str(Path(__file__).parent / name): number for number, name in enumerate(_LONG)}
    items.sort(key=lambda item: place.get(str(item.path), len(place)))
