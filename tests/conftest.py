"""Every test runs with the shapes of public signatures checked (jaxtyping by beartype)."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import torch
from jaxtyping import install_import_hook

import tests.shapes  # noqa: F401  # the hook names it and expects it to be loaded


def _load_kernels() -> None:
    """Load the file of kernels past the hook below, which would wrap what Triton reads as text."""
    if not torch.cuda.is_available():
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read where kernels are defined: they then run on a CPU, slowly
    name = "contrast.losses.fused_kernels"
    file = Path(__file__).parents[1] / "contrast/losses/fused_kernels.py"
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
