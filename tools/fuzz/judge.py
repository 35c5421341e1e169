"""What became of a command: accepted, refused, stopped, or a failure of this package."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from tools.fuzz.case import SPRUNG, Case, Outcome, Verdict
from tools.fuzz.child import CONNECTED, run_forked

__all__ = ["run_case"]

_CODES: dict[int, Verdict] = {0: "accepted", 2: "refused", 1: "stopped"}


def run_case(case: Case) -> Outcome:
    """Prepare a folder, run the command there, and judge what it did."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder, said = place / "here", place / "said"
    try:
        folder.mkdir()
        said.mkdir()
        case.prepare(folder)
        before = _contents(folder)
        code, seconds = run_forked(case.arguments, folder, said, case.seconds)
        error = (said / "stderr").read_text(errors="replace")
        verdict = _CODES.get(code, "failed")
        if seconds >= case.seconds and _trains(folder / "run/metrics.jsonl"):
            return Outcome("accepted", "still training when its time was up", 0, seconds, error)
        reason = _failure(code, error, seconds >= case.seconds) or _traces(folder, place, verdict, before)
        if reason:
            return Outcome("failed", reason, code, seconds, error)
        lines = _error_lines(error)
        return Outcome(verdict, lines[-1] if lines else "", code, seconds, error)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _trains(metrics: Path) -> bool:
    """Whether rows were still being written in the last seconds."""
    return metrics.exists() and time.time() - metrics.stat().st_mtime < 10


def _error_lines(error: str) -> list[str]:
    lines = [line for part in error.splitlines() for line in part.split("\r")]
    return [line for line in lines if line.startswith("contrast") and ": error: " in line]


def _failure(code: int, error: str, late: bool) -> str:
    """What is wrong with the exit code and standard error; nothing where they are as they should be."""
    if late:
        return "it hangs"
    if "Traceback (most recent call last)" in error:
        last = [line for line in error.strip().splitlines() if line.strip()][-1]
        return f"a traceback: {last[:200]}"
    if code not in _CODES:
        return f"exit code {code}"
    lines = _error_lines(error)
    if code and len(lines) != 1:
        return f"{len(lines)} error lines"
    if code and len(lines[0]) > 2000:
        return f"a line of {len(lines[0])} characters"
    if code and lines[0].rstrip().endswith("error:"):
        return "an error line that says nothing"
    if not code and lines:
        return "an error line and exit code 0"
    return ""


def _traces(folder: Path, place: Path, verdict: Verdict, before: dict[str, str]) -> str:
    """What a command left that it should not have."""
    if (folder / SPRUNG).exists():
        return "it ran what it was given"
    if (folder / CONNECTED).exists():
        return f"it was about to connect to {(folder / CONNECTED).read_text()}"
    if {path.name for path in place.iterdir()} != {"here", "said"}:
        return "it wrote outside its folder"
    if verdict == "accepted":
        return _unread(folder / "run") if "run/config.yaml" not in before else ""
    after = _contents(folder)
    if verdict == "refused" and (changed := [name for name in before if after.get(name) != before[name]]):
        return f"refused, and changed {', '.join(changed[:3])}"
    new = sorted(after.keys() - before.keys())
    if verdict == "refused" and new and not ({"run/metrics.jsonl", "run/checkpoints/last.ckpt"} & after.keys()):
        return f"refused, and left {', '.join(new[:3])}"
    return ""


def _unread(run: Path) -> str:
    if not (run / "config.yaml").exists():
        return ""
    from contrast.report import read_runs
    from contrast.run_folder import RunFolder

    try:
        read_runs([RunFolder.existing(run)])
    except Exception as error:  # whatever it is, it is a finding
        return f"its run folder does not read: {error!r:.150}"
    return ""


def _contents(folder: Path) -> dict[str, str]:
    """A checksum of every file, by its path in the folder; of anything else what it is."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            regular = path.is_file() and not path.is_symlink()
            found[path.relative_to(folder).as_posix()] = (
                hashlib.md5(path.read_bytes()).hexdigest() if regular and path.stat().st_size < 2**26 else "other"
            )
    return found
