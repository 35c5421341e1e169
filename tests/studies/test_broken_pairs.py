"""Pairs are broken as said, and what is counted as found is what was broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from contrast.data import SimCLRViews
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from studies.broken_pairs import FAULTY, NOISY, WHOLE, BrokenViews, broken, found, main, table
from tests.commands.running import pretrain


def some_images(count: int) -> torch.Tensor:
    return torch.randint(256, (count, 1, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_views_are_broken_by_their_kind_and_whole_ones_are_simclrs() -> None:
    images, index = some_images(40), torch.arange(100, 140)
    kind = broken(index, 3, 0.2, 0.2)
    assert all(bool((kind == each).sum() > 2) for each in (WHOLE, FAULTY, NOISY))
    first, second = BrokenViews(0.2, 0.2, size=12)(images, index, epoch=1, seed=3)
    plain_first, plain = SimCLRViews(12, crop_scale=(0.3, 1.0), flip=0.5, jitter_strength=0.5, blur=0.0)(
        images, index, epoch=1, seed=3
    )
    torch.testing.assert_close(first, plain_first)
    torch.testing.assert_close(second[kind == WHOLE], plain[kind == WHOLE])
    torch.testing.assert_close(second[kind == NOISY], first[kind == NOISY])
    faulty = (kind == FAULTY).nonzero().flatten()
    for sample in faulty.tolist():
        sources = [other for other in faulty.tolist() if torch.equal(second[sample], plain[other])]
        assert len(sources) == 1
        assert sources != [sample]


def test_the_only_faulty_sample_of_a_batch_gets_its_neighbours_view() -> None:
    everyone = torch.arange(200)
    sample = int((broken(everyone, 0, 0.1, 0.0) == FAULTY).nonzero()[0])
    index = torch.tensor([sample, int((broken(everyone, 0, 0.1, 0.0) == WHOLE).nonzero()[0])])
    _, second = BrokenViews(0.1, 0.0, size=12)(some_images(2), index, epoch=0, seed=0)
    torch.testing.assert_close(second[0], second[1])


def test_shares_are_of_all_samples_and_a_sample_stays_broken() -> None:
    kind = broken(torch.arange(20_000), 7, 0.05, 0.1)
    assert abs(float((kind == FAULTY).double().mean()) - 0.05) < 0.006
    assert abs(float((kind == NOISY).double().mean()) - 0.1) < 0.008
    assert torch.equal(broken(torch.arange(50, 60), 7, 0.05, 0.1), kind[50:60])
    assert not torch.equal(broken(torch.arange(20_000), 8, 0.05, 0.1), kind)


def write_run(folder: Path, mined: bool) -> RunFolder:
    """100 samples. The mining has half of the faulty and one whole sample; the losses rank all but one faulty first."""
    views = {"class_path": "studies.broken_pairs.BrokenViews", "init_args": {"faulty": 0.2, "noisy": 0.1}}
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump({"seed_everything": 0, "data": {"init_args": {"views": views}}}))
    kind = broken(torch.arange(100), 0, 0.2, 0.1)
    faulty, whole = (kind == FAULTY).nonzero().flatten().tolist(), (kind == WHOLE).nonzero().flatten().tolist()
    losses = np.full(100, 1.0)
    losses[faulty] = 2.0
    losses[whole[0]], losses[faulty[0]] = 2.0, 1.0
    losses[(kind == NOISY).numpy()] = 0.5
    losses[whole[1]] = np.nan  # not seen in the last epoch
    np.savez(folder / "last_losses.npz", losses=losses)
    if mined:
        row = {"epoch": 1, "faulty": [*faulty[: len(faulty) // 2], whole[2]], "noisy": []}
        run.flagged.write_text(json.dumps({"epoch": 0, "faulty": faulty, "noisy": []}) + "\n" + json.dumps(row) + "\n")
    return run


def test_precision_and_recall_are_of_what_was_broken(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", mined=True)
    kind = broken(torch.arange(100), 0, 0.2, 0.1)
    faulty, noisy = int((kind == FAULTY).sum()), int((kind == NOISY).sum())
    half = faulty // 2
    by = {(row["kind"], row["by"]): (row["count"], row["precision"], row["recall"]) for row in found(run)}
    assert by["faulty", "mining"] == (half + 1, half / (half + 1), half / faulty)
    assert by["faulty", "last loss, as many"][0] == half + 1
    assert by["faulty", "last loss, as many as are broken"] == (faulty, (faulty - 1) / faulty, (faulty - 1) / faulty)
    assert by["noisy", "mining"] == (0, None, 0.0)
    assert by["noisy", "last loss, as many as are broken"] == (noisy, 1.0, 1.0)


def test_seeds_of_one_folder_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / name / seed, name == "mined") for name in ("plain", "mined") for seed in ("0", "1")]
    lines = table(runs).splitlines()
    assert len(lines) == 2 + 2 * (1 + 3)
    assert sum(line.startswith("| faulty | mined | mining |") and line.endswith("| 2 |") for line in lines) == 1
    assert "| noisy | mined | mining | 0 | – | 0.0 (0.0 to 0.0) | 2 |" in lines
    assert main([str(run.path) for run in runs]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_a_run_without_losses_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", mined=False)
    (run.path / "last_losses.npz").unlink()
    assert main([str(run.path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "last_losses.npz" in line
    assert "LastLosses" in line


def test_a_run_with_broken_views_keeps_its_last_losses(tmp_path: Path) -> None:
    broken_views = {
        "class_path": "studies.broken_pairs.BrokenViews",
        "init_args": {"faulty": 0.2, "noisy": 0.2, "size": 8},
    }
    callbacks = "[studies.broken_pairs.LastLosses]"
    flags = ["--data.views", json.dumps(broken_views), "--trainer.callbacks", callbacks]
    assert pretrain(tmp_path / "run", *flags) == 0
    losses = np.load(tmp_path / "run" / "last_losses.npz")["losses"]
    assert losses.shape == (96,)
    rows = read_rows(RunFolder(tmp_path / "run").metrics)
    steps = [row["train/loss"] for row in rows if row["epoch"] == 1 and "train/loss" in row]
    assert len(steps) == 3
    assert losses.mean() == pytest.approx(np.mean(steps), rel=1e-5)  # 96 samples in 3 equal batches, each seen once
    assert [row["by"] for row in found(RunFolder(tmp_path / "run"))] == ["last loss, as many as are broken"] * 2
