"""Every test runs with the shapes of public signatures checked (jaxtyping by beartype)."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from jaxtyping import install_import_hook

import tests.shapes  # noqa: F401  # the hook names it and expects it to be loaded

install_import_hook("contrast", "tests.shapes.check")

os.environ.setdefault("WANDB_MODE", "offline")
torch.set_num_threads(min(2, torch.get_num_threads()))

GOLDEN = Path(__file__).parent / "golden"
