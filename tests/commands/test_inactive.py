"""Pieces that will never act in a run are said at the start, by the doctor and by the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from contrast.banks import FaissBank, KeyQueue
from contrast.banks.approximate import IVF
from contrast.callbacks import Checkpoints
from contrast.cli import main
from contrast.doctor import examine
from contrast.losses import BadPairMining, HardNegativeMixing, NegativeInterpolation, PositiveExtrapolation
from contrast.losses.false_negatives import FalseNegativeAttraction, FalseNegativeRemoval
from contrast.optim import Constant, Schedule, Steps, WarmupCosine
from contrast.report.overview import overview
from contrast.report.run_record import RunRecord
from contrast.run_folder import RunFolder
from contrast.runs.length import MayStartLate, RunLength

ROOT = Path(__file__).parents[2]
STARTS: dict[str, tuple[Callable[[int], MayStartLate], str]] = {
    "MoCHi": (lambda epoch: HardNegativeMixing(start_epoch=epoch), "it will never mix"),
    "extrapolation": (lambda epoch: PositiveExtrapolation(start_epoch=epoch), "never change a pair"),
    "interpolation": (lambda epoch: NegativeInterpolation(start_epoch=epoch), "never change a pair"),
    "removal": (lambda epoch: FalseNegativeRemoval(start_epoch=epoch), "never take a negative out"),
    "attraction": (lambda epoch: FalseNegativeAttraction(start_epoch=epoch), "never take a negative out"),
    "DBPM": (lambda epoch: BadPairMining(samples=4, warmup_epochs=max(1, epoch)), "never weight a pair"),
    "cosine": (lambda epoch: WarmupCosine(warmup_epochs=epoch), "the rate will reach"),
    "constant": (lambda epoch: Constant(warmup_epochs=epoch), "the rate will reach"),
    "warm-up of steps": (lambda epoch: Steps([], warmup_epochs=epoch), "the rate will reach"),
    "milestones": (lambda epoch: Steps([max(1, epoch)]), "the rate will not fall there"),
    "kept checkpoints": (
        lambda epoch: Checkpoints(RunFolder(Path()), {}, keep_every_n_epochs=epoch + 1),
        "no numbered checkpoint will be kept",
    ),
    "warm-up of a bank": (
        lambda epoch: FaissBank(2, size=4, warmup_steps=5 * epoch),
        "queries will only get random rows",
    ),
    "checkpoints within an epoch": (
        lambda epoch: Checkpoints(RunFolder(Path()), {}, every_n_steps=5 * epoch + 1),
        "no checkpoint will be written within an epoch",
    ),
    "queue": (lambda epoch: KeyQueue(2, size=20 * epoch + 1), "never be full"),
    "approximate": (
        lambda epoch: FaissBank(2, size=10**6, per_sample=True, approximate=IVF(2, 2, above=20 * epoch + 4)),
        "every search will be exact",
    ),
}
"""What makes each piece from the epoch at which it starts, and what is said. An epoch has 5 steps of 4 samples."""


@pytest.mark.parametrize("epochs", [1, 2, 6])
@pytest.mark.parametrize("name", STARTS)
def test_every_piece_says_whether_it_acts(name: str, epochs: int) -> None:
    make, words = STARTS[name]
    run = RunLength(steps=5 * epochs, steps_per_epoch=5, samples_per_step=4)
    late = make(epochs).never_acts(run)
    assert late is not None
    assert words in late
    assert "\n" not in late
    assert make(epochs - 1).never_acts(run) is None or name in ("DBPM", "milestones")  # which start at 1 at least
    assert make(epochs).never_acts(RunLength(5 * (epochs + 1), 5, 4)) is None


def test_a_run_that_ends_within_an_epoch_begins_it() -> None:
    assert HardNegativeMixing(start_epoch=2).never_acts(RunLength(11, 5, 4)) is None
    assert HardNegativeMixing(start_epoch=2).never_acts(RunLength(10, 5, 4)) is not None
    nothing = HardNegativeMixing(pairs=0, queries=0, start_epoch=0).never_acts(RunLength(10, 5, 4))
    assert nothing == "HardNegativeMixing of 0 pairs and 0 queries makes no mixes"


def test_a_schedule_of_somebody_else_s_says_nothing() -> None:
    class Mine(Schedule):
        def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
            return 1.0

    assert Mine().never_acts(RunLength(1, 1, 1)) is None


def test_pieces_that_will_never_act_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    files = [str(ROOT / each) for each in ("configs/demo.yaml", "tests/commands/small.yaml")]
    words = ["--config", files[0], "--config", files[1], "--run", str(folder.path)]
    mixing = "[{class_path: HardNegativeMixing, init_args: {hardest: 4, pairs: 2, queries: 1, start_epoch: 3}}]"
    assert main(["pretrain", *words, "--model.loss.transforms", mixing, "--trainer.max_epochs", "2"]) == 0
    said = capsys.readouterr().err
    line = "HardNegativeMixing (MoCHi) starts at epoch 3 and this run has 2 epochs: it will never mix"
    assert said.count(line) == 1
    assert [line for line in said.splitlines() if line.startswith("note    HardNegativeMixing")]
    (finding,) = [each for each in examine(folder).findings if each.rule == "inactive"]
    assert line in finding.seen
    shown = overview(RunRecord.read(folder, "run"))
    assert "HardNegativeMixing (never active)" in shown.facts["Loss"]
    assert "HardNegativeMixing (never active)" in shown.sentence
    assert "examined" in shown.facts["Input"]

    assert main(["pretrain", "--resume", str(folder.path), "--trainer.max_epochs", "5"]) == 0
    assert line not in capsys.readouterr().err
    assert "HardNegativeMixing" not in json.dumps(json.loads(folder.inactive.read_text())["pieces"])
    assert "never active" not in overview(RunRecord.read(folder, "run")).sentence
