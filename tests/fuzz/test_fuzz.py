"""A small part of the corpora, in a process of its own: `make fuzz` runs them whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="cases are forked and limited as on Linux")
@pytest.mark.parametrize(("corpus", "count"), [("configurations", 40), ("files", 20)])
def test_no_failure(corpus: str, count: int, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    words = [sys.executable, "-m", "tests.harness.fuzz", corpus, "--count", str(count), "--seed", "1"]
    words += ["--json", str(rows)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = Counter(json.loads(line)["verdict"] for line in rows.read_text().splitlines())
    assert sum(found.values()) == count
    assert found["accepted"]
    assert found["refused"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="as above")
def test_every_base_trains() -> None:
    """Else its mutations would all be refused for the same reason."""
    words = [sys.executable, "-c", _BASES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert json.loads(done.stdout) == {}, done.stderr


_BASES = """
import json, tempfile
from pathlib import Path

import yaml

from tests.harness.fuzz.bases import bases
from tests.harness.fuzz.child import run_forked, warm_up

warm_up()
wrong = {}
for name, config in bases().items():
    with tempfile.TemporaryDirectory() as place:
        said = Path(place, "said")
        said.mkdir()
        Path(place, "config.yaml").write_text(yaml.safe_dump(config))
        words = ("pretrain", "--config", "config.yaml", "--run", "run")
        code, _ = run_forked(words, Path(place), said, 60)
        if code:
            wrong[name] = (said / "stderr").read_text()[-300:]
print(json.dumps(wrong))
"""
