"""Cases of the golden files: parameters and arrays by case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"


def cases(name: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Tensor]]]:
    """(case id, parameters, arrays as float64 or int64 tensors) of one golden file."""
    listed = json.loads((GOLDEN / f"{name}.json").read_text())["cases"]
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        for case in listed:
            start = f"{case['id']}/"
            mine = {key.removeprefix(start): torch.tensor(arrays[key]) for key in arrays.files if key.startswith(start)}
            yield case["id"], case["params"], mine


def close(actual: Tensor, expected: Tensor, rtol: float = 1e-9) -> None:
    """Equal to a relative 1e-9 of the tensor's scale, as the golden files state it."""
    scale = expected.abs().max().item()
    torch.testing.assert_close(
        actual, expected, rtol=rtol, atol=rtol * max(scale, 1e-3)
    )  # where all is zero, rounding is left
