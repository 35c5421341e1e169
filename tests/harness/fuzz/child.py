"""Run a command in a forked process, under limits of time and memory, where no connection leaves the machine."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import pkgutil
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

__all__ = ["CONNECTED", "PAGES", "READY", "run_forked", "warm_up"]

CONNECTED = "CONNECTED"
"""The file that a child writes into its folder where it was about to open a connection."""

PAGES = "(pages)"
"""In place of a command: ask the dashboard for its pages, which the command would serve for ever."""

READY = "ready"
"""The file that a child writes beside its streams once a signal is the command's to answer."""

_STEP = 90  # seconds within which the largest network that the memory holds has done its step
_MEMORY = 6 * 2**30  # beyond what the parent has mapped
_FILE = 2**30


def warm_up() -> None:
    """Import once what every child needs."""
    import torch

    import contrast

    # All of it now: a file that is edited meanwhile must not be half of another version.
    for module in pkgutil.walk_packages(contrast.__path__, "contrast."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    from contrast.commands import building as parser

    torch.set_num_threads(1)
    parser.run_parser()


def run_forked(
    arguments: tuple[str, ...], folder: Path, said: Path, seconds: float, interrupt: tuple[int, float] | None = None
) -> tuple[int, float]:
    """Run `contrast` with these arguments in a folder.

    Args:
        arguments: of the command.
        folder: where it runs.
        said: a folder that gets its ``stdout`` and ``stderr``.
        seconds: after which it is told to end, where it trains, and killed, where it does not or does not end.
        interrupt: a signal, and after how many seconds it gets it.

    Returns:
        Its exit code, negative for a signal, and the seconds it took.
    """
    began = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        _child(arguments, folder, said)
    watched = os.pidfd_open(process)
    try:
        ended = False
        if interrupt is not None:
            while not (said / READY).exists() and not ended:  # before, a signal would not be the command's
                ended = _ends(watched, 0.01)
            number, after = interrupt
            if not _ends(watched, after):
                os.kill(process, number)
        ended = _ends(watched, seconds)
        if not ended and (folder / "run/status.json").exists():
            os.kill(process, signal.SIGTERM)  # a long training, which ends with its step, or a hang, which does not
            ended = _ends(watched, _STEP)
        if not ended:
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    finally:
        os.close(watched)
        _end_group(process)
    return os.waitstatus_to_exitcode(status), time.monotonic() - began


def _ends(watched: int, seconds: float) -> bool:
    """Whether a process ends within this time."""
    return bool(select.select([watched], [], [], seconds)[0])


def _end_group(process: int) -> None:
    """End the workers that a killed child leaves: it leads a group of its own."""
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def _child(arguments: tuple[str, ...], folder: Path, said: Path) -> None:
    code = 1
    try:
        os.setsid()
        _limit(folder, said)
        from contrast.cli import main

        gc.callbacks.clear()  # hypothesis's, where an interruption would be lost
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from what it runs beside itself
        (said / READY).touch()
        code = _pages(Path(arguments[1])) if arguments[:1] == (PAGES,) else main(list(arguments))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the command is over
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                continue
        os._exit(code & 0xFF)


def _limit(folder: Path, said: Path) -> None:
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, number)
        os.close(file)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    # What the parent's test runner put in their place, is not ours.
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # it lives as long as the process
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115  # as above
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + _MEMORY, mapped + _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _refuse_connections(folder)
    # Lightning starts further processes by this one's own words, which are the fuzzer's.
    subprocess.Popen = _no_process  # type: ignore[assignment, misc]


def _no_process(*arguments: Any, **named: Any) -> None:
    raise OSError("no process is started in a case")


def _refuse_connections(folder: Path) -> None:
    connect = socket.socket.connect

    def refused(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_UNIX:
            return connect(self, address)
        (folder / CONNECTED).write_text(str(address))
        raise OSError("no connection leaves a case")

    socket.socket.connect = refused  # type: ignore[method-assign]


def _pages(runs: Path) -> int:
    """0 where every page of the dashboard answers, without an error of the server's."""
    from contrast.dashboard import dashboard_app

    application = dashboard_app(runs)
    codes = {path: asyncio.run(_asked(application, path)) for path in ("/", "/runs.json", "/run/first", "/state.json")}
    return 0 if all(code < 500 for code in codes.values()) else 1


async def _asked(application: Any, path: str) -> int:
    """The code of one answer."""
    codes = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            codes.append(message["status"])

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"run=first"}
    scope |= {"headers": [(b"host", b"localhost")], "http_version": "1.1", "scheme": "http", "server": ("localhost", 1)}
    await application({**scope, "client": ("127.0.0.1", 1), "root_path": ""}, receive, send)
    return int(codes[0])
