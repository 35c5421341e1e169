"""A run folder that is being written, or whose writer was killed, reads like one with fewer rows."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contrast.doctor import examine
from contrast.records import read_rows
from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
from tests.commands.running import pretrain

ROOT = Path(__file__).parents[2]
QUEUE_AND_MINING = [
    "--model", "MoCo", "--model.backbone", "ConvNet", "--model.backbone.widths", "[4,8]", "--model.head", "MoCoV2Head",
    "--model.bank", "KeyQueue", "--model.bank.size", "64", "--bank.every_n_steps", "1",
    "--model.loss", "ContrastiveLoss", "--model.loss.objective", "InfoNCE", "--model.loss.weighting", "BadPairMining",
    "--model.loss.weighting.warmup_epochs", "1", "--model.loss.weighting.noisy", "0.5",
]  # fmt: skip
"""So that there is a bank to write of, and flagged pairs."""
WRITER = """
import shutil, sys
from pathlib import Path
from contrast.records import append_row, read_rows
source, target = map(Path, sys.argv[1:])
while True:
    for name in ("metrics.jsonl", "scores.jsonl", "gallery.jsonl"):
        for row in read_rows(source / name):
            append_row(target / name, row)
"""
READER = """
import sys, time
from pathlib import Path
from contrast.doctor import examine
from contrast.report import build_page, read_runs
from contrast.run_folder import RunFolder
folder, ends, seen, pages = RunFolder(Path(sys.argv[1])), time.monotonic() + float(sys.argv[2]), 0, 0
while time.monotonic() < ends:
    (run,) = read_runs([folder])
    assert len(run.observed) >= seen, "rows do not vanish"
    seen = len(run.observed)
    examine(folder)
    assert build_page([run]).endswith("</html>")
    pages += 1
print(pages)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert pretrain(folder, *QUEUE_AND_MINING, "--scores.every_n_steps", 1) == 0
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints")))


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_processes_read_while_one_writes(trained: Path, copy: Path) -> None:
    writer = python(WRITER, trained, copy)
    readers = [python(READER, copy, 3) for _ in range(2)]
    try:
        for reader in readers:
            said, failed = reader.communicate(timeout=120)
            assert reader.returncode == 0, failed
            assert int(said) >= 1
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()
    assert len(read_rows(copy / "metrics.jsonl")) > 2 * len(read_rows(trained / "metrics.jsonl"))


def test_a_writer_killed_at_any_moment_leaves_a_folder_that_reads(trained: Path, copy: Path) -> None:
    draw = random.Random(0)
    for _ in range(6):
        writer = python(WRITER, trained, copy)
        time.sleep(1.0 + draw.random() / 4)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        (run,) = read_runs([RunFolder(copy)])
        assert len(run.observed) == 6
        assert examine(RunFolder(copy)).rows == 6


@pytest.mark.parametrize("name", ["scores.jsonl", "metrics.jsonl", "gallery.jsonl", "bank.jsonl", "flagged.jsonl",
                                  "status.json", "config.yaml",
                                  "pairs/all_epochs.safetensors"])  # fmt: skip
def test_a_file_cut_anywhere_still_gives_a_page(name: str, copy: Path) -> None:
    draw, whole = random.Random(1), (copy / name).read_bytes()
    (before,) = read_runs([RunFolder(copy)])
    for cut in sorted({0, 1, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(12))}):
        (copy / name).write_bytes(whole[:cut])
        (run,) = read_runs([RunFolder(copy)])
        examine(RunFolder(copy))
        if name == "scores.jsonl":
            assert run.observed == before.observed[: max(0, whole[:cut].count(b"\n") - 1)] or cut == len(whole) - 1
        if name == "bank.jsonl":  # of flagged.jsonl a page shows nothing
            assert run.bank == before.bank[: whole[:cut].count(b"\n")] or cut == len(whole) - 1
    (copy / name).write_bytes(whole[: len(whole) // 2])
    assert build_page(read_runs([RunFolder(copy)])).endswith("</html>")


def test_pictures_come_from_inside_the_folder_only(copy: Path, tmp_path: Path) -> None:
    inside = read_rows(copy / "gallery.jsonl")[-1]["highest"][0]["pictures"][0]
    picture = copy / inside
    (tmp_path / "outside.png").write_bytes(picture.read_bytes())
    (copy / "text.png").write_text("no picture")
    (copy / "gallery" / "link.png").symlink_to(tmp_path / "outside.png")
    text = (copy / "gallery.jsonl").read_text()
    counts = []
    for path in (
        inside,
        "../outside.png",
        str(tmp_path / "outside.png"),
        "text.png",
        "gallery/link.png",
        "gallery/no.png",
    ):
        (copy / "gallery.jsonl").write_text(text.replace(inside, path))
        counts.append(build_page(read_runs([RunFolder(copy)])).count("data:image/png"))
    assert all(count < counts[0] for count in counts[1:]), counts
