"""Signals that ask a run to stop: noted when they come, acted on where a step is whole, by all processes at once."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from contrast.stop_signals import SAME_REQUEST, end_at_once

__all__ = ["StopSignals", "requeue"]


class StopSignals:
    """Ctrl-C, SIGTERM and SIGHUP, and SLURM's warning SIGUSR1 in a job of SLURM's.

    The first one is noted once there is a step to save; before that it stops at once. A second one stops at once too,
    unless it is part of the same request. SLURM's warning may come several times, and before any of the others.

    Attributes:
        begun: whether the first step of this process is all but done, so that there is something to save.
    """

    def __init__(self) -> None:
        self.begun = False
        self._received = 0
        self._asked: float | None = None  # when, but for warnings
        self._before: dict[int, Any] = {}
        self._group: Any = None

    def install(self) -> None:
        """Listen from now on, where this is the main thread: Python gives signals to no other."""
        if threading.current_thread() is not threading.main_thread():
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as `nohup` has it
            numbers.append(signal.SIGHUP)
        if "SLURM_JOB_ID" in os.environ:
            numbers.append(signal.SIGUSR1)
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        if dist.is_available() and dist.is_initialized():
            # Of its own and on the CPU: to agree must not wait for a device.
            self._group = dist.new_group(backend="gloo")

    def restore(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before, self._received, self._asked, self.begun = {}, 0, None, False
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None

    def received(self) -> int:
        """The number of the signal that any process has received, 0 for none; every process is to ask.

        Processes receive one at different times. If each acted on its own, one would wait for the others for ever.
        """
        if self._group is None:
            return self._received
        highest = torch.tensor(self._received)
        dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=self._group)
        return int(highest)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = self._received or number
        if number == getattr(signal, "SIGUSR1", None):
            return
        now = time.monotonic()
        again = self._asked is not None and (number == signal.SIGINT or now - self._asked > SAME_REQUEST)
        if again or not self.begun:
            end_at_once(number)
        self._asked = now if self._asked is None else self._asked


def requeue() -> str:
    """Have SLURM start this job again; what came of it, in words."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
    except OSError as error:
        return f"SLURM could not be asked to start job {job} again ({error.strerror})"
    if done.returncode:
        return f"SLURM did not start job {job} again ({' '.join(done.stderr.split())[:120]})"
    return f"SLURM will start job {job} again"
