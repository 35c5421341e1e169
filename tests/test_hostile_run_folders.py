"""A run folder that holds what no run writes: every command answers, and the other runs are as they were."""

from __future__ import annotations

import json
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from contrast.cli import main
from contrast.dashboard.listing import Listing
from contrast.dashboard.pages import ReportPages
from contrast.dashboard.runs_folder import RunsFolder
from tests.report.synthetic import Shape, write_run
from tests.test_checked_text import BOMBS

DEEP = '{"a":' * 900 + "1" + "}" * 900
FILES = ("metrics.jsonl", "scores.jsonl", "bank.jsonl", "flagged.jsonl", "gallery.jsonl")
OBJECTS = ("summary.json", "status.json", "evaluations/knn.json", "duplicates/duplicates.json", "wandb.json")
JSON = {
    "deep": DEEP,
    "endless": "[" * 200_000,
    "a deep step": f'{{"step": {DEEP}}}',
    "a large integer": '{"step": 1' + "0" * 4000 + ', "epoch": 1' + "0" * 4000 + ', "top1": 1' + "0" * 4000 + "}",
    "a larger integer": '{"step": 1' + "0" * 9000 + "}",
    "NaN": '{"step": NaN, "epoch": Infinity, "top1": NaN, "train/loss": -Infinity}',
    "texts": '{"step": "3", "epoch": "x", "top1": "y", "edges": "z", "state": 3, "updated": [], "queries": {}}',
    "lists": '{"step": [1], "epoch": [1], "top1": [1], "edges": [[1]], "positive": [1], "protocol": [1]}',
    "twice": '{"step": 1, "step": 2}',
    "a number": "3",
    "a long line": '{"step": 3, "x": "' + "x" * 3_000_000 + '"}',
}


def _png(side: int) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def _picture(folder: Path, side: int) -> None:
    (folder / "gallery").mkdir(exist_ok=True)
    (folder / "gallery" / "0.png").write_bytes(_png(side))
    pair = {"index": 0, "pictures": ["gallery/0.png", "gallery/0.png"], "loss": 1.0}
    (folder / "gallery.jsonl").write_text(json.dumps({"step": 1, "epoch": 0, "highest": [pair]}) + "\n")


def _tensors(content: bytes) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / "pairs").mkdir(exist_ok=True)
        for name in ("all_epochs", "epoch-0001"):
            (folder / "pairs" / f"{name}.safetensors").write_bytes(content)

    return put


def _header(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _text(content: str, *names: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)

    return put


HOSTILE: dict[str, Callable[[Path], None]] = {
    **{f"config.yaml: {bomb}": _text(content, "config.yaml") for bomb, content in BOMBS.items()},
    "config.yaml: bytes": lambda folder: (folder / "config.yaml").write_bytes(b"\xff\xfe\x00"),
    **{f"all rows: {kind}": _text(f"{JSON[kind]}\n", *FILES) for kind in JSON},
    **{f"all objects: {kind}": _text(JSON[kind], *OBJECTS) for kind in JSON},
    "pairs: a header of 2^60 bytes": _tensors(struct.pack("<Q", 1 << 60) + b"{}"),
    "pairs: a deep header": _tensors(_header(DEEP)),
    "pairs: 2^50 numbers": _tensors(
        _header(f'{{"seen": {{"dtype": "F32", "shape": [{1 << 50}], "data_offsets": [0, {1 << 52}]}}}}')
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_bad_run_folder_stops_nobody(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("good", "bad"):
        write_run(tmp_path / name, Shape(snapshots=2, epochs=2))
    HOSTILE[kind](tmp_path / "bad")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    runs = RunsFolder(tmp_path)
    assert {row.name for row in Listing(runs).rows()} == {"good", "bad"}
    page = ReportPages(runs).page(["bad", "good"])
    assert page is not None
    assert len(page.content) < 30_000_000
    assert main(["doctor", str(tmp_path / "bad"), str(tmp_path / "good")]) == 0
    assert "Traceback" not in capsys.readouterr().err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


@pytest.mark.parametrize(
    "kind", [*(f"config.yaml: {bomb}" for bomb in BOMBS), "config.yaml: bytes", "all objects: endless"]
)
def test_what_cannot_be_read_is_told_by_doctor_page_and_list(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "bad", Shape(snapshots=2, epochs=2))
    HOSTILE[kind](folder)
    name = "config.yaml" if kind.startswith("config") else "status.json"
    assert main(["doctor", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "damaged-file" in printed
    assert f"{name}" in printed
    assert main(["report", str(folder)]) == 0
    assert "content is missing here" in (folder / "report.html").read_text()
    (row,) = Listing(RunsFolder(tmp_path)).rows()
    assert "damaged-file" in row.html


def test_a_picture_that_unfolds_to_gigabytes_is_not_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "bad", Shape(snapshots=2, epochs=2))
    for side, shown in ((60_000, False), (60, True)):
        _picture(folder, side)
        assert main(["report", str(folder)]) == 0
        assert ("data:image/png;base64,iVBOR" in (folder / "report.html").read_text()) is shown


def test_a_run_whose_files_cannot_be_read_stays_on_the_list(tmp_path: Path, monkeypatch) -> None:
    for name in ("good", "bad"):
        write_run(tmp_path / name, Shape(snapshots=2, epochs=2))
    from contrast.dashboard import listing

    summarise = listing.summarise

    def breaking(run: object, scalars: object = None) -> object:
        if "bad" in str(run):
            raise TypeError("a mistake of ours")
        return summarise(run, scalars)  # type: ignore[arg-type]

    monkeypatch.setattr(listing, "summarise", breaking)
    rows = {row.name: row.html for row in Listing(RunsFolder(tmp_path)).rows()}
    assert "its files cannot be read (TypeError)" in rows["bad"]
    assert "its files cannot be read" not in rows["good"]
