"""One bar for the whole run, on standard error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lightning
import pytest

from contrast.callbacks import OnlineKNN, Progress
from contrast.run_folder import RunFolder
from tests.callbacks.fitting import fit, simclr


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """The bar as it stood last."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.split("\r")[-1]


def test_it_counts_the_steps_of_the_whole_run_and_shows_what_matters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = Progress()
    fit(tmp_path, simclr(), [OnlineKNN(RunFolder(tmp_path), 1), bar])
    last = shown(capsys)
    assert "epoch 2/2" in last
    assert "6/6" in last
    for number in ("loss=", "rate=", "samples/s=", "kNN="):
        assert number in last


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 200])
def test_no_number_is_cut_and_the_bar_is_ten_columns_wide(
    columns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As reported: at 100 columns the bar was one character wide, and "samples/s=10" stood for 105."""
    monkeypatch.setattr("tqdm.std._screen_shape_wrapper", lambda: lambda _: (columns, 24))
    fit(tmp_path, simclr(), [OnlineKNN(RunFolder(tmp_path), 1), Progress(1)])
    bars = [bar.rstrip("\n") for bar in capsys.readouterr().err.split("\r") if "loss=" in bar or "6/6" in bar]
    assert bars
    for bar in bars:
        assert len(bar) <= columns
        found = re.fullmatch(r"epoch \d/2: +\d+%\|(.*)\| \d/6 \[[\d:]+<[\d:?]+((?:, .*)?)\]", bar.strip())
        assert found, bar
        assert len(found[1]) >= min(10, columns - 36)
        for number in filter(None, found[2].split(", ")):
            assert re.fullmatch(r"loss=\d+\.\d{3}|samples/s=[\d,]+|kNN=\d+\.\d%|rate=[\d.e-]+", number), bar
    assert "samples/s=" in bars[-1] or columns < 80


def test_a_resumed_run_starts_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = fit(tmp_path, simclr(), [], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "kept.ckpt", weights_only=False)
    capsys.readouterr()
    fit(tmp_path, simclr(), [Progress()], resume=tmp_path / "kept.ckpt")
    said = capsys.readouterr().err
    assert "3/6" in said.split("\r")[1]
    assert "6/6" in said.split("\r")[-1]


def test_it_ends_its_line_when_the_run_is_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fit(tmp_path, simclr(), [Progress(), Stop()])
    assert shown(capsys).endswith("\n")
