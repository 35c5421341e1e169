"""Memory, file handles and the run folder's size over a long run with recorder, bank and online evaluation.

    python -m benchmarks.long_run --steps 20000 > long.json

Prints JSON: what the training process holds at every tenth of the run, and how fast each grew from the first tenth on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from contrast.run_folder import RunFolder
from contrast.runs.status import read_status

_WORDS = [
    *("--config", "configs/demo.yaml", "--model", "MoCo", "--model.momentum", "0.99"),
    *(
        "--model.backbone",
        "{class_path: ConvNet, init_args: {widths: [4, 8]}}",
        "--model.head",
        "{class_path: MoCoV2Head, init_args: {output_width: 8}}",
    ),
    "--model.bank",
    "{class_path: FaissBank, init_args: {size: 1437, per_sample: true, mining: {class_path: Hardest, init_args: "
    "{count: 64}}}}",
    *("--data.batch_size", "32", "--checkpoints.every_n_epochs", "20", "--online_knn.every_n_epochs", "20"),
]


def measure(process: int, folder: Path) -> dict[str, int]:
    """What a process holds, and how much there is in its run folder; bytes, but for the number of handles."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    # What is being written, under a name with a dot, may be gone before it is looked at.
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    kept = sum(path.stat().st_size for path in files if path.suffix != ".ckpt")
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "handles": len(os.listdir(f"/proc/{process}/fd")),
        "threads": len(os.listdir(f"/proc/{process}/task")),
        "folder_without_checkpoints": kept,
        "files": len(files),
    }


def follow(folder: Path, steps: int, workers: int) -> list[dict[str, Any]]:
    """Train, and measure at every tenth of the steps."""
    command = [sys.executable, "-m", "contrast", "pretrain", *_WORDS, "--run", str(folder)]
    flags = ["--trainer.max_steps", str(steps), "--trainer.max_epochs", "-1", "--data.workers", str(workers)]
    with subprocess.Popen([*command, *flags], stderr=subprocess.DEVNULL) as process:
        found: list[dict[str, Any]] = []
        while process.poll() is None:
            time.sleep(0.5)
            status = read_status(RunFolder(folder).status)
            if status is not None and status.step >= (len(found) + 1) * steps // 10 - steps // 50:
                found.append({"step": status.step, **measure(process.pid, folder)})
                print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    if process.returncode:
        raise SystemExit(f"the run ended with exit code {process.returncode}")
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_run", allow_abbrev=False)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        found = follow(Path(scratch) / "run", given.steps, given.workers)
        sizes = {path.name: path.stat().st_size for path in sorted((Path(scratch) / "run").iterdir()) if path.is_file()}
    thousands = (found[-1]["step"] - found[0]["step"]) / 1000
    growth = {name: (found[-1][name] - found[0][name]) / thousands for name in found[0] if name != "step"}
    print(json.dumps({"measured": found, "growth_per_1000_steps": growth, "files": sizes}, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
