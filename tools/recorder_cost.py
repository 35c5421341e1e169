"""What recording costs: whole runs of the demo at several intervals, in turn, against runs that record no scores.

    python -m tools.recorder_cost --epochs 40 --repetitions 6 > cost.json

Prints JSON: the seconds of each run, and for each interval the median over repetitions of its ratio to the run without
scores of the same repetition, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from contrast.records import read_rows
from contrast.run_folder import RunFolder

INTERVALS = (0, 1, 6, 10, 50)


def seconds(folder: Path, every: int, epochs: int) -> float:
    """Wall-clock seconds of training, from the first step's start to the last's end, as the run's metrics have them."""
    command = [sys.executable, "-m", "contrast", "pretrain", "--config", "configs/demo.yaml", "--run", str(folder)]
    flags = ["--trainer.max_epochs", str(epochs), "--scores.every_n_steps", str(every)]
    subprocess.run([*command, *flags], check=True, capture_output=True)
    return max(float(row["seconds"]) for row in read_rows(RunFolder(folder).metrics) if "seconds" in row)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.recorder_cost", allow_abbrev=False)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--repetitions", type=int, default=6)
    given = parser.parse_args(arguments)
    found: dict[int, list[float]] = {every: [] for every in INTERVALS}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(given.repetitions):
            for every in INTERVALS if turn % 2 else reversed(INTERVALS):
                found[every].append(seconds(Path(scratch) / f"{turn}-{every}", every, given.epochs))
                print(f"repetition {turn}, every {every}: {found[every][-1]:.2f} s", file=sys.stderr)
    ratios = {
        every: [with_it / without for with_it, without in zip(found[every], found[0], strict=True)]
        for every in INTERVALS[1:]
    }
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    over = {every: [statistics.median(of), min(of), max(of)] for every, of in ratios.items()}
    print(json.dumps({"torch": torch.__version__, **machine, "seconds": found, "ratio": over}, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
