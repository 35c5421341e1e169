"""Every test runs with the shapes of public signatures checked (jaxtyping by beartype)."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from jaxtyping import install_import_hook

import tests.shapes  # noqa: F401  # the hook names it and expects it to be loaded

install_import_hook("contrast", "tests.shapes.check")

os.environ.setdefault("WANDB_MODE", "offline")
# Small tensors gain nothing from threads, and several test processes would fight over the cores.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

GOLDEN = Path(__file__).parent / "golden"
