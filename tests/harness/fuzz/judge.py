"""What became of a command: accepted, refused, stopped, or a failure of this package."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

from tests.harness.fuzz.case import SPRUNG, Case, Outcome, Verdict
from tests.harness.fuzz.child import CONNECTED, run_forked

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
        code, seconds = run_forked(case.arguments, folder, said, case.seconds, case.interrupt)
        error = (said / "stderr").read_text(errors="replace")
        late = seconds >= case.seconds
        if late and code == 128 + signal.SIGTERM and case.interrupt is None:
            return Outcome("accepted", "still training when its time was up, and ended when told", code, seconds, error)
        verdict = _verdict(code, case.interrupt)
        reason = _failure(code, verdict, error, late) or _traces(folder, place, verdict, before)
        if reason:
            return Outcome("failed", reason, code, seconds, error)
        lines = _error_lines(error)
        return Outcome(verdict, lines[-1] if lines else "", code, seconds, error)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _verdict(code: int, interrupt: tuple[int, float] | None) -> Verdict:
    if interrupt is not None:  # nothing else is wrong, so it was done before, or says that it was interrupted
        return {0: "accepted", 128 + interrupt[0]: "interrupted"}.get(code, "failed")
    return _CODES.get(code, "failed")


def _error_lines(error: str) -> list[str]:
    lines = [line for part in error.splitlines() for line in part.split("\r")]
    return [line for line in lines if line.startswith("contrast") and ": error: " in line]


def _failure(code: int, verdict: Verdict, error: str, late: bool) -> str:
    """What is wrong with the exit code and standard error; nothing where they are as they should be."""
    if late:
        return "it hangs"
    if "Traceback (most recent call last)" in error:
        last = [line for line in error.strip().splitlines() if line.strip()][-1]
        return f"a traceback: {last[:200]}"
    if verdict == "failed":
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
    if verdict in ("accepted", "interrupted") and (reason := _half_written(folder, before)):
        return reason
    if verdict in ("accepted", "interrupted"):
        return _unread(folder / "run") if "run/config.yaml" not in before else ""
    after = _contents(folder)
    if verdict == "refused" and (changed := [name for name in before if after.get(name) != before[name]]):
        return f"refused, and changed {', '.join(changed[:3])}"
    new = sorted(after.keys() - before.keys())
    if verdict == "refused" and new and not ({"run/metrics.jsonl", "run/checkpoints/last.ckpt"} & after.keys()):
        return f"refused, and left {', '.join(new[:3])}"
    return ""


def _half_written(folder: Path, before: dict[str, str]) -> str:
    """What was there before is whole: what a reader may rewrite are files of JSON and pages."""
    for name in before:
        path = folder / name
        if not os.path.lexists(path):
            return f"{name} is gone"
        if path.suffix == ".json" and before[name] != _checksum(path):
            try:
                json.loads(path.read_text())
            except ValueError as error:
                return f"{name} is half written: {error}"
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
            found[path.relative_to(folder).as_posix()] = _checksum(path)
    return found


def _checksum(path: Path) -> str:
    regular = path.is_file() and not path.is_symlink()
    return hashlib.md5(path.read_bytes()).hexdigest() if regular and path.stat().st_size < 2**26 else "other"
