"""Dashboard as a web application: routes, HTTP server and security headers."""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contrast.dashboard.listing import Listing
from contrast.dashboard.pages import LineCounts, ReportPages, own_asset, rendered, rows_written, stylesheet
from contrast.dashboard.runs_folder import RunsFolder
from contrast.errors import InputError
from contrast.report.page import asset
from contrast.runs.next_command import shell_command

__all__ = ["LOOPBACK", "SafeHeaders", "dashboard_app", "serve"]

# Policy of the list. A report page carries its own policy, which allows its inline scripts by their hashes.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
REPORT_POLICY = "frame-ancestors 'none'"
REPORTS = ("/run/", "/compare")


class SafeHeaders:
    """Middleware that adds security headers to every response.

    The headers forbid the browser to load anything from another site, to show the page in a frame, to let another
    site read it, and to send a referrer.

    Args:
        app: the ASGI application to wrap.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                report = str(scope.get("path", "")).startswith(REPORTS) and message["status"] == 200
                headers["content-security-policy"] = REPORT_POLICY if report else POLICY
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
                headers["cross-origin-resource-policy"] = "same-origin"
            await send(message)

        await self.app(scope, receive, send_with)


CLOSING = 2
"""Seconds that open requests may still take when the server is stopped."""


def serve(folder: Path, host: str, port: int) -> None:
    """Run the dashboard's web server until Ctrl-C.

    Args:
        folder: the folder that holds the run folders.
        host: the address to listen on.
        port: the port; 0 takes a free port.

    Raises:
        InputError: if the address is not an address of this machine, or the port cannot be used.
    """
    listening = _listen(host, port)
    address, taken = listening.getsockname()[:2]
    loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    if not loopback:
        reached = "anyone who reaches this machine can read the runs; without --host only this machine can"
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
        raise InputError(f"--host {host!r} is not an address: leave it out to serve only this machine") from error
    except OSError as error:
        raise InputError(_why(error, host, port)) from error


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: give another with --port, or --port 0 for any free port"
    if error.errno == errno.EACCES:
        return f"port {port} needs administrator rights: give a port above 1023 with --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host!r} is not an address of this machine: leave it out to serve only this machine"
    return f"cannot listen on {host!r}, port {port} ({error.strerror}): give another --host or --port"


LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
SCRIPTS = {"theme.js": asset, "list.js": own_asset}


class _RunName(Convertor[str]):
    """Route parameter for the name of a run: the rest of the path, including line breaks, unlike Starlette's `path`."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("run", _RunName())
GONE = "There is no such run in this folder, or it cannot be read."


def dashboard_app(folder: Path, hosts: Sequence[str] = LOOPBACK) -> Starlette:
    """Build the dashboard's ASGI application for the runs below a folder.

    Args:
        folder: the folder that holds the run folders.
        hosts: the host names that are answered; "*" answers every name. The check prevents DNS rebinding: a foreign
            site whose name was made to point to this machine cannot read the runs.
    """
    dashboard = _Dashboard(folder)
    routes = [
        Route("/", dashboard.overview),
        Route("/runs.json", dashboard.rows),
        Route("/state.json", dashboard.state),
        Route("/run/{name:run}", dashboard.run),
        Route("/compare", dashboard.compare),
        Route("/assets/{name}", _asset),
    ]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
    application = Starlette(
        routes=routes,
        middleware=[Middleware(SafeHeaders), trusted],
        exception_handlers={HTTPException: _refused},  # type: ignore[dict-item]  # Starlette types it for any exception
    )
    application.router.redirect_slashes = False
    return application


class _Dashboard:
    """Request handlers. They are plain functions, which Starlette runs in threads, so that requests run in parallel."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs = RunsFolder(folder)
        self._listing, self._pages, self._lines = Listing(self._runs), ReportPages(self._runs), LineCounts()

    def overview(self, request: Request) -> Response:
        """Page with the list of runs."""
        first = shell_command("pretrain", "--run", self._folder / "first")
        page = rendered("list.html", {"folder": str(self._folder), "first": first, "rows": self._listing.rows()})
        return _answer(request, page.encode(), "text/html")

    def rows(self, request: Request) -> Response:
        """Rows of the list with their stamps, which the list polls."""
        rows = [{"name": row.name, "stamp": row.stamp, "html": row.html} for row in self._listing.rows()]
        return _json(request, {"runs": rows})

    def state(self, request: Request) -> Response:
        """Number of rows written and progress of the named runs, which the bar above a report page polls."""
        names = self._asked(request)
        found, folders = self._listing.standing(names), [self._runs.run(name) for name in names]
        if found is None or not all(folders):
            raise HTTPException(404, GONE)
        try:
            written = rows_written([folder for folder in folders if folder is not None], self._lines)
        except OSError as error:  # deleted in the meantime
            raise HTTPException(404, GONE) from error
        runs = [{"name": name, **each.as_json()} for name, each in zip(names, found, strict=True)]
        return _json(request, {"rows": written, "runs": runs})

    def run(self, request: Request) -> Response:
        """Report page of one run."""
        return self._page(request, [request.path_params["name"]])

    def compare(self, request: Request) -> Response:
        """Report page that compares the runs of the query string."""
        return self._page(request, self._asked(request))

    def _page(self, request: Request, names: Sequence[str]) -> Response:
        page = self._pages.page(names)
        if page is None:
            raise HTTPException(404, GONE)
        return _answer(request, page.content, "text/html", page.tag)

    def _asked(self, request: Request) -> list[str]:
        """Names of the runs in the query string, without repeats, in order."""
        names = list(dict.fromkeys(map(self._named, request.query_params.getlist("run"))))
        if not names:
            raise HTTPException(404, "No run is selected: tick runs in the list to compare them.")
        return names

    def _named(self, name: str) -> str:
        """Original name of a run: an HTML form sends every line break of a name as CR LF."""
        if "\n" not in name or self._runs.run(name) is not None:
            return name
        return next((each for each in self._runs.names() if _one_break(each) == _one_break(name)), name)


def _one_break(name: str) -> str:
    return name.replace("\r\n", "\n").replace("\r", "\n")


def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name == "list.css":
        return _answer(request, stylesheet().encode(), "text/css")
    if name not in SCRIPTS:
        raise HTTPException(404, "There is no such file.")
    return _answer(request, SCRIPTS[name](name).encode(), "text/javascript")


def _json(request: Request, content: dict[str, Any]) -> Response:
    return _answer(request, json.dumps(content, allow_nan=False).encode(), "application/json")


def _answer(request: Request, content: bytes, kind: str, tag: str = "") -> Response:
    """Response with the content, or 304 (not modified) where the browser already has it."""
    tag = f'"{tag or hashlib.sha256(content).hexdigest()[:20]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def _refused(request: Request, error: HTTPException) -> Response:
    page = rendered("refused.html", {"code": error.status_code, "reason": error.detail})
    return Response(page, error.status_code, media_type="text/html", headers=error.headers)
