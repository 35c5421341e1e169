"""Run every command and snippet of README.md and docs/**/*.md, page by page, each page in a folder of its own.

A fenced block marked ``bash`` is run by ``bash -e``, one marked ``python`` by the interpreter, one marked ``yaml`` or
``python`` whose first line is ``# file: NAME`` is written to that file instead. Blocks of one page see each other's
files. ``make`` targets are left to CI, which runs them itself. Pages run side by side, one a core, each on one thread.

    python -m docs.make.run_docs [PAGE ...]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^# file: (\S+)\n")


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """(line, language, text) of each fenced block."""
    text = page.read_text()
    for match in _FENCE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1], match[2]


def run(page: Path) -> int:
    """Run one page; how many of its blocks failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("configs", "tests"):
            (folder / name).symlink_to(ROOT / name)
        for line, language, text in blocks(page):
            if name := _FILE.match(text):
                (folder / name[1]).parent.mkdir(parents=True, exist_ok=True)
                (folder / name[1]).write_text(text)
                continue
            command = _command(language, text)
            if command is None:
                continue
            started = time.perf_counter()
            done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True)
            verdict = "ok" if done.returncode == 0 else f"FAILED with {done.returncode}"
            took = time.perf_counter() - started
            print(f"{page.relative_to(ROOT)}:{line}: {language} {verdict}, {took:.1f} s", flush=True)
            if done.returncode:
                failed += 1
                print(text, done.stdout[-3000:], done.stderr[-3000:], sep="\n")
    return failed


def _command(language: str, text: str) -> list[str] | None:
    if language == "python":
        return [sys.executable, "-c", text]
    if language == "bash":
        lines = [line for line in text.splitlines() if not line.startswith("make ")]
        return ["bash", "-ec", "\n".join(lines)] if lines else None
    return None


def _environment() -> dict[str, str]:
    binaries = Path(sys.executable).parent
    # The pages name programs of the checkout, such as `python -m benchmarks.step`.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    ours = {"PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return {**os.environ, **ours, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}


if __name__ == "__main__":
    every = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    pages = [Path(page).resolve() for page in sys.argv[1:]] or every
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = sum(pool.map(run, pages))
    print(f"{len(pages)} pages, {failures} failed blocks")
    raise SystemExit(bool(failures))
