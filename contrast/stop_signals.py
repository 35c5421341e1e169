"""Signals that ask a process to stop: which are one request, and child processes that leave them to their parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator

from contrast.errors import Terminated

__all__ = [
    "SAME_REQUEST",
    "end_at_once",
    "leave_signals_to_the_parent",
    "new_request",
    "stop_signals_blocked",
]

SAME_REQUEST = 1.0
"""Seconds within which a second signal belongs to the first request: `timeout` sends SIGTERM to the process, and then
to its whole group."""

_STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]
_SECONDS = 2.0
"""Between two looks at whether the parent lives."""

_ended = -SAME_REQUEST  # when a signal has last been raised


def end_at_once(number: int) -> None:
    """Raise what ends a command for a signal: KeyboardInterrupt for Ctrl-C, `Terminated` for any other.

    The second of two other signals in succession is not raised: it would hit the handling of the first.
    """
    global _ended
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if time.monotonic() - _ended >= SAME_REQUEST:
        _ended = time.monotonic()
        raise Terminated(number)


def new_request() -> None:
    """Forget the last signal: what comes from now on is meant for something else."""
    global _ended
    _ended = -SAME_REQUEST


@contextlib.contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Processes that are started within this have the signals that ask a run to stop blocked from their first moment.

    A signal to the whole process group, as of `timeout`, a terminal or a job's end, would else end loader workers
    before the main process has finished its step. The main process gets what came meanwhile on leaving.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_the_parent() -> None:
    """In a loader worker: only the parent's own SIGTERM, or its death, ends this process."""
    if not hasattr(signal, "pthread_sigmask"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)  # a process of a fork server has the server's mask
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        threading.Thread(target=_listen_to, args=(parent.pid, os.getppid()), daemon=True).start()


def _listen_to(parent: int, forked_from: int) -> None:
    """End this process when the parent says so by SIGTERM, as torch and multiprocessing do, or when it has gone."""
    while os.getppid() == forked_from:
        if not hasattr(signal, "sigtimedwait"):  # macOS
            time.sleep(_SECONDS)
            continue
        came = signal.sigtimedwait([signal.SIGTERM], _SECONDS)
        if came is not None and came.si_pid == parent:
            break
    os._exit(0)
