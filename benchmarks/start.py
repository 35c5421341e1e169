"""From the command to its answer: `contrast --help`, and `contrast pretrain` to the end of its first step."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.command import run_part
from benchmarks.timing import Row, Times, interleaved
from contrast.run_folder import RunFolder

_REPETITIONS = 5
_LONGEST = 300.0  # seconds to wait for a first step
_DEMO = Path("configs") / "demo.yaml"


def measure() -> Iterator[Row]:
    ways = {"help": _help, "first step": _first_step, "import torch, lightning": _imports}
    times = interleaved(ways, _REPETITIONS)
    yield _within(times, "contrast --help", "help", 0.5)
    yield _within(times, "contrast pretrain, digits, to the end of the first step", "first step", 12.0)
    yield times.over_floor(
        "start", "contrast pretrain, to the first step", "first step", "import torch, lightning", None
    )


def _within(times: Times, what: str, name: str, limit: float) -> Row:
    """A time over the seconds that it may take."""
    ratios = sorted(each / limit for each in times.seconds[name])
    middle, low, high = ratios[len(ratios) // 2], ratios[0], ratios[-1]
    ours = times.milliseconds(name)
    return Row(
        "start", what, f"{limit:g} s", middle, low, high, "lower", 1.0, ours, 1e3 * limit, note="least, greatest"
    )


def _help() -> None:
    subprocess.run([sys.executable, "-m", "contrast", "--help"], check=True, stdout=subprocess.DEVNULL)


def _imports() -> None:
    subprocess.run([sys.executable, "-c", "import torch, lightning"], check=True)


def _first_step() -> None:
    """Until the row of the first step is written; what the run does after it is not waited for."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch) / "run")
        words = ["pretrain", "--config", str(_DEMO), "--run", str(folder.path), "--trainer.max_steps", "1"]
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "contrast", *words], stderr=subprocess.DEVNULL)
        # The online kNN writes a row before it.
        while not (folder.metrics.exists() and "train/loss" in folder.metrics.read_text()):
            if process.poll() not in (None, 0) or time.monotonic() - started > _LONGEST:
                raise RuntimeError(f"contrast {' '.join(words)} came to no first step")
            time.sleep(0.005)
        process.kill()
        process.wait()


if __name__ == "__main__":
    raise SystemExit(run_part("start", measure))
