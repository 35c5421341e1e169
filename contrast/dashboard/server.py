"""The dashboard as a server: a socket that is bound before anything is said, then uvicorn on it."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from pathlib import Path

import uvicorn

from contrast.dashboard.app import LOOPBACK, dashboard_app
from contrast.errors import InputError

__all__ = ["serve"]

CLOSING = 2
"""Seconds that answers under way may take when the server is stopped."""


def serve(folder: Path, host: str, port: int) -> None:
    """Answer until Ctrl-C.

    Args:
        folder: which holds run folders.
        host: the address to listen at.
        port: the port; 0 takes a free one.

    Raises:
        InputError: for an address that is not this machine's and a port that cannot be had.
    """
    listening = _listen(host, port)
    address, taken = listening.getsockname()[:2]
    loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    if not loopback:
        reached = "anyone who reaches this machine can read the runs; without --host it serves this machine alone"
        print(f"contrast dashboard: warning: {reached}", file=sys.stderr, flush=True)
    shown = f"[{address}]" if ":" in address else address
    config = uvicorn.Config(
        dashboard_app(folder, [*LOOPBACK, shown] if loopback else ["*"]),
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=CLOSING,
    )
    print(f"http://{shown}:{taken}/   (Ctrl-C stops it)", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((host, port) if family == socket.AF_INET else place[:2], family=family)
    except socket.gaierror as error:
        raise InputError(f"--host {host!r} is no address: leave it out to serve this machine alone") from error
    except OSError as error:
        raise InputError(_why(error, host, port)) from error


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: give another with --port, or --port 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"port {port} is not for everybody: give one above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host!r} is no address of this machine: leave it out to serve this machine alone"
    return f"cannot listen at {host!r}, port {port} ({error.strerror}): give another --host or --port"
