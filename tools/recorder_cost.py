"""What recording costs: whole runs at several intervals, in turn, against runs that record no scores.

    python -m tools.recorder_cost --steps 200 --repetitions 6 > cost.json
    python -m tools.recorder_cost --config configs/method/simclr.yaml configs/data/fashion_mnist.yaml \\
        configs/experiment/fashion_mnist_simclr.yaml --steps 40 --intervals 0 1 10 --repetitions 4

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


def seconds(folder: Path, configs: list[str], every: int, steps: int) -> float:
    """Wall-clock seconds of training, from the first step's start to the last's end, as the run's metrics have them."""
    command = [sys.executable, "-m", "contrast", "pretrain", "--run", str(folder)]
    files = [word for file in configs for word in ("--config", file)]
    flags = ["--trainer.max_steps", str(steps), "--scores.every_n_steps", str(every)]
    subprocess.run([*command, *files, *flags], check=True, capture_output=True)
    return max(float(row["seconds"]) for row in read_rows(RunFolder(folder).metrics) if "seconds" in row)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.recorder_cost", allow_abbrev=False)
    parser.add_argument("--config", nargs="+", default=["configs/demo.yaml"], metavar="FILE")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--intervals", type=int, nargs="+", default=[0, 1, 6, 10, 50], help="0, none, among them")
    parser.add_argument("--repetitions", type=int, default=6)
    given = parser.parse_args(arguments)
    found: dict[int, list[float]] = {every: [] for every in given.intervals}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(given.repetitions):
            for every in given.intervals if turn % 2 else reversed(given.intervals):
                found[every].append(seconds(Path(scratch) / f"{turn}-{every}", given.config, every, given.steps))
                print(f"repetition {turn}, every {every}: {found[every][-1]:.2f} s", file=sys.stderr)
    ratios = {
        every: [with_it / without for with_it, without in zip(found[every], found[0], strict=True)]
        for every in given.intervals
        if every
    }
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    over = {every: [statistics.median(of), min(of), max(of)] for every, of in ratios.items()}
    print(json.dumps({"torch": torch.__version__, **machine, "seconds": found, "ratio": over}, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
