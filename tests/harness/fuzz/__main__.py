"""Draw wrong input, run each in a process of its own, and count what became of it.

    python -m tests.harness.fuzz configurations --count 2000 --seed 0 --jobs 2
    python -m tests.harness.fuzz files --count 500
    python -m tests.harness.fuzz configurations --count 300 --shrink

Exit code 1 where there was a failure: a traceback, a hang, more or less than one line, something run or overwritten.
With --shrink it stops at the first one and prints the least case that still fails.
"""

from __future__ import annotations

import argparse
import sys

from tests.harness.fuzz.corpus import run_corpus, shrink
from tests.harness.fuzz.summary import print_summary


def main() -> int:
    """Run a corpus and print its table."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("corpus", choices=("configurations", "files"))
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="also write every case and what became of it")
    parser.add_argument("--shrink", action="store_true", help="stop at a failure and look for its least form")
    arguments = parser.parse_args()
    if arguments.shrink:
        shrink(arguments.corpus, arguments.count, arguments.seed)
        return 0
    rows = run_corpus(arguments.corpus, arguments.count, arguments.seed, arguments.jobs)
    return print_summary(rows, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
