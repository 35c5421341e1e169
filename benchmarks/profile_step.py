"""Where the time of a training step goes, by part, in a run as `contrast pretrain` makes it.

    python -m benchmarks.profile_step --config configs/demo.yaml --steps 200
    python -m benchmarks.profile_step --config configs/demo.yaml --steps 200 --cpu

Prints a table of milliseconds a step and shares, of the steps after `--skip`, epochs' ends included. Each moment
belongs to one part: what is called within another part is taken off that one. With --cpu it counts the process's CPU
time on one thread, which others on the machine disturb less than the wall clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.profilers import Profiler
from torch import nn

from benchmarks.whole_run import Run
from contrast.commands.configuration import compose
from contrast.commands.pretrain import read_request
from contrast.methods import ContrastiveMethod

_PARTS = {  # the first that an action's name holds
    "train_dataloader_next": "loader",
    "after_batch_transfer": "views",
    "batch_to_device": "loader",
    "Recorder.": "recorder",
    "PairRecorder.": "recorder",
    "BankRecorder.": "recorder",
    "Metrics.": "metrics, progress, status",
    "Progress.": "metrics, progress, status",
    "RunStatus.": "metrics, progress, status",
    "Checkpoints.": "checkpoints",
    "save_checkpoint": "checkpoints",
    "OnlineKNN.": "online kNN",
    "[Callback]": "other callbacks",
    "on_after_backward": "bank",
    ".backward": "backward",
    "optimizer_step": "optimiser",
    "optimizer_zero_grad": "optimiser",
    "training_step": "pairs, key encoder's average",
    "module ": "",  # of our own hooks: the part follows
}
_LOOP = "Lightning's loop"


class Parts(Profiler):  # type: ignore[misc]  # Lightning types its profilers loosely
    """Seconds of each part, without those of parts that were called from it.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._open: list[str] = []
        self._since = clock()
        self.seconds: dict[str, float] = defaultdict(float)

    def start(self, action_name: str) -> None:
        self._charge()
        self._open.append(part_of(action_name))

    def stop(self, action_name: str) -> None:
        self._charge()
        self._open.pop()

    def restart(self) -> None:
        """Forget what was."""
        self._charge()
        self.seconds.clear()

    def _charge(self) -> None:
        now = self._clock()
        self.seconds[self._open[-1] if self._open else _LOOP] += now - self._since
        self._since = now

    def watch(self, method: ContrastiveMethod) -> None:
        """Count the method's networks and loss apart."""
        named = {"backbone": "forward", "head": "forward", "key_encoder": "key forward", "loss": "loss"}
        for name, part in named.items():
            module = getattr(method, name, None)
            if isinstance(module, nn.Module):
                self._watch(module, f"module {part}")

    def _watch(self, module: nn.Module, action: str) -> None:
        module.register_forward_pre_hook(lambda *_: self.start(action))
        module.register_forward_hook(lambda *_: self.stop(action))


def part_of(action: str) -> str:
    """The part of a step that one of Lightning's actions, or a hook of ours, belongs to."""
    for word, part in _PARTS.items():
        if word in action:
            return part or action.partition(word)[2]
    return _LOOP


class _Steps(lightning.Callback):
    """Counts from the end of one step to that of another."""

    def __init__(self, parts: Parts, skip: int, steps: int) -> None:
        self._parts, self._skip, self._steps = parts, skip, steps
        self.seconds: dict[str, float] = {}

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self._skip:
            self._parts.restart()
        if trainer.global_step == self._skip + self._steps:
            self.seconds = dict(self._parts.seconds)
            trainer.should_stop = True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_step", allow_abbrev=False)
    parser.add_argument("--config", action="append", default=[], help="as of contrast pretrain; flags may follow")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--skip", type=int, default=20)
    parser.add_argument("--cpu", action="store_true", help="CPU time of one thread in place of the wall clock")
    given, flags = parser.parse_known_args()
    if given.cpu:
        torch.set_num_threads(1)
    parts = Parts(time.process_time if given.cpu else time.perf_counter)
    files = [word for file in given.config for word in ("--config", file)]
    request = read_request([*files, *flags])
    with tempfile.TemporaryDirectory() as scratch:
        run = Run(compose(request.files, request.flags).config, Path(scratch) / "run", profiler=parts)
        parts.watch(run.model)
        steps = _Steps(parts, given.skip, given.steps)
        run.train(steps)
    print(table(steps.seconds, given.steps))
    return 0


def table(seconds: dict[str, float], steps: int) -> str:
    """Rows of a Markdown table, the dearest part first."""
    whole = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    rows = [f"| {name} | {1e3 * each / steps:.2f} | {each / whole:.1%} |" for name, each in ordered]
    return "\n".join(
        ["| part | ms a step | share |", "| --- | ---: | ---: |", *rows, f"| all | {1e3 * whole / steps:.2f} | |"]
    )


if __name__ == "__main__":
    raise SystemExit(main())
