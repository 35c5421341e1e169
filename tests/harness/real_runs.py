"""Runs of several methods that are really trained, for tests and pictures of pages.

python -m tests.harness.real_runs RUNS [NAME...]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

CONVNET = ["--model.backbone", "ConvNet", "--model.backbone.widths", "[16,32,64]"]
ALL = ["--scores.every_n_steps", "1", "--online_knn.every_n_epochs", "2"]
DEMO = ["--config", "configs/demo.yaml", *CONVNET, *ALL]
MOCHI = "[{class_path: HardNegativeMixing, init_args: {hardest: 64, pairs: 32, queries: 16, start_epoch: 2}}]"
RUNS: dict[str, list[str]] = {
    "mochi": ["--config", "configs/method/mocov2.yaml", "--config", "configs/data/digits.yaml", "--config",
              "configs/experiment/digits_mocov2.yaml", *CONVNET, "--model.loss.transforms", MOCHI,
              *ALL, "--trainer.max_epochs", "40"],
    "dbpm": ["--config", "configs/experiment/japanese_vowels_dbpm.yaml", "--trainer.max_epochs", "8",
             "--model.loss.weighting.warmup_epochs", "4", *ALL],
    "amcl": [*DEMO, "--config", "configs/loss/adaptive_temperature.yaml", "--trainer.max_epochs", "4"],
    **{objective: [*DEMO, "--model.loss.objective", objective, "--trainer.max_epochs", "4"]
       for objective in ("InfoNCE", "DCL", "HCL")},
}  # fmt: skip
"""Flags of each."""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.real_runs", allow_abbrev=False)
    parser.add_argument("folder", type=Path, metavar="RUNS")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)}")
    given = parser.parse_args(arguments)
    for name in given.names or RUNS:
        shutil.rmtree(given.folder / name, ignore_errors=True)
        command = [sys.executable, "-m", "contrast", "pretrain", *RUNS[name], "--run", str(given.folder / name)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
