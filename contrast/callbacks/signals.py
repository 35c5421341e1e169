"""Signals that ask a run to stop: noted when they come, acted on where a step is whole, by all processes at once."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["StopSignals", "requeue"]


class StopSignals:
    """Ctrl-C and SIGTERM, and SLURM's warning SIGUSR1 in a job of SLURM's.

    The first one is noted. A second Ctrl-C stops at once; SLURM may send its own several times.
    """

    def __init__(self) -> None:
        self._received = 0
        self._before: dict[int, Any] = {}
        self._group: Any = None

    def install(self) -> None:
        """Listen from now on, where this is the main thread: Python gives signals to no other."""
        if threading.current_thread() is not threading.main_thread():
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
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
        self._before, self._received = {}, 0
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
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


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
