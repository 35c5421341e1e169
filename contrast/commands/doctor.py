"""`contrast doctor`: diagnose problems of a run in plain words."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from contrast.commands.arguments import OneLineParser
from contrast.doctor import Examination, examine
from contrast.errors import counted
from contrast.run_folder import RunFolder

__all__ = ["main"]

EPILOG = """examples:
  contrast doctor runs/simclr             findings, the worst first
  contrast doctor runs/simclr --json      the same as JSON

The doctor only reads the run folder, of a finished run or of a run in training. Each finding gives the number behind
it and a fix; docs/doctor.md lists the bounds and the runs from which they were set."""


def main(argv: list[str]) -> int:
    """Print the findings for each run.

    Args:
        argv: words after the subcommand.

    Raises:
        InputError: if a folder is not a run folder.
    """
    arguments = _parser().parse_args(argv)
    folders = [RunFolder.existing(path) for path in arguments.runs]
    found = {str(folder.path): examine(folder) for folder in folders}
    if arguments.json:
        print(json.dumps({path: _as_json(each) for path, each in found.items()}, indent=2))
        return 0
    for path, each in found.items():
        print(_as_text(path, each))
    return 0


def _as_json(found: Examination) -> dict[str, Any]:
    """An examination as JSON; each finding also has its fix under the key `mend`, the key of earlier versions."""
    findings = [{**dataclasses.asdict(finding), "mend": finding.fix} for finding in found.findings]
    return {**dataclasses.asdict(found), "findings": findings}


def _as_text(path: str, found: Examination) -> str:
    after = "" if found.progress >= 1 else f", {100 * found.progress:.0f} % of the run"
    seen = f"{found.rows:,} observed steps{after}"
    if not found.rows:
        seen = "no observed steps: rules on scores and embeddings are skipped"
    lines = [f"{path}: {_counted(found)} ({seen})"]
    for finding in found.findings:
        lines += ["", f"{finding.severity.upper()}  {finding.rule}", f"  {finding.seen}", f"  {finding.fix}"]
    return "\n".join(lines)


def _counted(found: Examination) -> str:
    count = len(found.findings)
    return counted(count, "finding") if count else "nothing found"


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="contrast doctor",
        description="Find problems of a run, each with the number behind it and a fix.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run folder of a finished run or of a run in training"
    )
    parser.add_argument("--json", action="store_true", help="findings as JSON, by run")
    return parser
