"""Draw cases of a corpus and run them, in several processes."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests.harness.fuzz.case import Case
from tests.harness.fuzz.child import warm_up
from tests.harness.fuzz.judge import run_case

__all__ = ["Row", "run_corpus", "shrink"]

Row = dict[str, Any]


def _strategy(corpus: str) -> st.SearchStrategy[Case]:
    if corpus == "configurations":
        from tests.harness.fuzz.configurations import configurations

        return configurations()
    from tests.harness.fuzz.files import files

    return files()


def _drawn(corpus: str, count: int, seed: int, phases: tuple[Phase, ...], body: Callable[[Case], None]) -> None:
    drawn = given(case=_strategy(corpus))(lambda case: body(case))
    checks = list(HealthCheck)
    limited = settings(
        max_examples=count, database=None, deadline=None, phases=phases, suppress_health_check=checks, print_blob=False
    )
    seeded(seed)(limited(drawn))()


def run_corpus(corpus: str, count: int, seed: int, jobs: int = 1) -> list[Row]:
    """Run `count` cases of a corpus; one row each.

    Args:
        corpus: configurations or files.
        count: of cases.
        seed: of what is drawn; the same cases for the same number of jobs.
        jobs: processes, each with its share.
    """
    warm_up()
    _strategy(corpus)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        parts = [Path(place, f"{job}.jsonl") for job in range(jobs)]
        children = []
        for job, part in enumerate(parts):
            share = count // jobs + (job < count % jobs)
            children.append(_started(lambda part=part, share=share, job=job: _run(corpus, share, seed + job, part)))
        ended = [os.waitpid(child, 0)[1] for child in children]
        if any(ended):
            raise RuntimeError(f"a job of the corpus broke off: {ended}")
        return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def _started(action: Callable[[], None]) -> int:
    process = os.fork()
    if process == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def _run(corpus: str, count: int, seed: int, file: Path) -> None:
    seen: set[str] = set()
    with open(file, "w") as rows:

        def body(case: Case) -> None:
            if len(seen) == count or repr(case) in seen:
                return
            seen.add(repr(case))
            outcome = run_case(case)
            row = {"kind": case.kind, "case": repr(case), **vars(outcome)}
            rows.write(json.dumps(row) + "\n")
            rows.flush()
            if outcome.verdict == "failed":
                print(f"FAILED {case!r}\n  {outcome.reason}", file=sys.stderr, flush=True)

        # Some are drawn twice, and run once; and hypothesis may end before it has drawn enough.
        for again in range(20):
            if len(seen) < count:
                _drawn(corpus, 3 * count, seed + 1000 * again, (Phase.generate,), body)


def shrink(corpus: str, count: int, seed: int) -> None:
    """Draw until a case fails, and raise with the least one that still does."""
    warm_up()

    def body(case: Case) -> None:
        outcome = run_case(case)
        assert outcome.verdict != "failed", f"{case!r}\n{outcome.reason}\n{outcome.error}"

    _drawn(corpus, count, seed, (Phase.generate, Phase.shrink), body)
