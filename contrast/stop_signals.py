"""Stop signals (Ctrl-C, SIGTERM, SIGHUP, SIGUSR1): grouping into one request, and shielding of loader workers."""

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
"""Seconds within which a second signal belongs to the same request to stop.

`timeout` sends SIGTERM to the process first, and then to its whole process group.
"""

_STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]
_SECONDS = 2.0
"""Seconds between two checks whether the parent process is alive."""

_ended = -SAME_REQUEST  # time of the last signal that was raised as an exception, by time.monotonic


def end_at_once(number: int) -> None:
    """Raise the exception that ends a command: KeyboardInterrupt for Ctrl-C, `Terminated` for any other signal.

    If two signals other than Ctrl-C arrive within `SAME_REQUEST` seconds, only the first raises: the second would
    interrupt the handling of the first.

    Args:
        number: the signal's number.

    Raises:
        KeyboardInterrupt: for SIGINT.
        Terminated: for any other signal.
    """
    global _ended
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if time.monotonic() - _ended >= SAME_REQUEST:
        _ended = time.monotonic()
        raise Terminated(number)


def new_request() -> None:
    """Forget the last signal, so that the next signal counts as a new request to stop."""
    global _ended
    _ended = -SAME_REQUEST


@contextlib.contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Context manager: child processes started inside it have all stop signals blocked from their start.

    A signal to the whole process group (from `timeout`, a terminal, or the end of a job) would otherwise end the loader
    workers before the main process has finished its step. When the context ends, the main process receives the
    signals that arrived inside it.
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
    """Call in a loader worker: only SIGTERM from the parent process, or the parent's death, ends the worker."""
    if not hasattr(signal, "pthread_sigmask"):
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)  # a fork server's child inherits the server's mask
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        threading.Thread(target=_listen_to, args=(parent.pid, os.getppid()), daemon=True).start()


def _listen_to(parent: int, forked_from: int) -> None:
    """End this process when the parent has died, or sends SIGTERM as torch and multiprocessing do.

    Args:
        parent: process id of the parent.
        forked_from: process id of the process that forked this one, which may be a fork server.
    """
    while os.getppid() == forked_from:
        if not hasattr(signal, "sigtimedwait"):  # macOS
            time.sleep(_SECONDS)
            continue
        came = signal.sigtimedwait([signal.SIGTERM], _SECONDS)
        if came is not None and came.si_pid == parent:
            break
    os._exit(0)
