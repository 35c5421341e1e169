"""A dashboard to ask: the application on a server in a thread, or the command in a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from contrast.dashboard import dashboard_app

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Dashboard:
    """Asks a dashboard; the path goes out as it stands, as no browser would send it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.address = f"http://127.0.0.1:{port}"

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        found = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        connection.close()
        return found

    def rows(self) -> dict[str, dict[str, Any]]:
        """The list's rows by the names of their runs."""
        answer = self.get("/runs.json")
        assert answer.code == 200, answer.text
        return {row["name"]: row for row in answer.json["runs"]}


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Dashboard]:
    """In a thread, on a free port."""
    config = uvicorn.Config(dashboard_app(folder), port=0, log_level="error", lifespan="off", ws="none", http="h11")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Dashboard(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def command(folder: Path, *arguments: str) -> Iterator[tuple[Dashboard, subprocess.Popen[str]]]:
    """`contrast dashboard`, on a free port."""
    line = [sys.executable, "-m", "contrast", "dashboard", str(folder), "--port", "0", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = re.search(r"http://\S+:(\d+)/", process.stdout.readline())
        assert port is not None, process.communicate()
        yield Dashboard(int(port[1])), process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            pipe.close()  # type: ignore[union-attr]  # both were asked for
