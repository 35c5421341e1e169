"""Small runs for tests: the demo's data and net, a few steps."""

from __future__ import annotations

from pathlib import Path

from contrast.cli import main

SMALL = [
    "--config", "configs/demo.yaml",
    "--model.backbone.widths", "[4, 8]",
    "--model.head.output_width", "8",
    "--data.limit", "96",
    "--data.batch_size", "32",
    "--trainer.max_epochs", "2",
    "--metrics.every_n_steps", "1",
    "--scores.every_n_steps", "1",
]  # fmt: skip


def pretrain(folder: Path, *arguments: object, small: bool = True) -> int:
    """`contrast pretrain` in this process, into `folder`; its exit code."""
    return main(["pretrain", *(SMALL if small else []), "--run", str(folder), *map(str, arguments)])
