"""Run a grid of configurations x seeds and make one table of it; docs/compare.md says how.

python tools/compare.py tools/compare/fashion_methods.yaml --jobs 2
"""

from __future__ import annotations

import sys
from pathlib import Path

# A script finds what lies beside it, not the checkout that holds `tools.compare`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.compare.command import main

if __name__ == "__main__":
    raise SystemExit(main())
