"""Pairs broken on purpose: does bad-pair mining find them, and does it help?

    contrast pretrain ... --data.views studies.broken_pairs.BrokenViews --data.views.faulty 0.05 \\
        --trainer.callbacks '[studies.broken_pairs.LastLosses]' --run RUN
    python -m studies.broken_pairs RUN...

Two kinds after DBPM (Lan et al., ICLR 2024, arXiv 2302.03357): a *faulty* pair's second view is of another sample, a
*noisy* pair's views are the same. The second is not the authors' notion: their noisy pair is one whose noise exceeds
the signal in both views; identical views are the shortest way to a pair of low loss. Which samples are broken is a
function of the run's seed. The second command prints precision and recall of what the mining flagged in the last epoch,
beside those of taking as many pairs, or as many as are broken, by their loss in the last epoch alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from contrast.data import SimCLRViews
from contrast.errors import InputError
from contrast.evaluation import mean_interval
from contrast.randomness import Purpose, uniform
from contrast.records import read_mapping, read_rows
from contrast.run_folder import RunFolder

WHOLE, FAULTY, NOISY = range(3)


class BrokenViews(SimCLRViews):
    """SimCLR's views with a share of the samples' pairs broken in every epoch.

    Args:
        faulty: share of samples whose second view is of another faulty sample of the batch.
        noisy: share of samples whose second view is their first.
        size, crop_scale, flip, jitter_strength: as in `SimCLRViews`.
    """

    def __init__(
        self,
        faulty: float = 0.05,
        noisy: float = 0.05,
        size: int = 28,
        crop_scale: tuple[float, float] = (0.3, 1.0),
        flip: float = 0.5,
        jitter_strength: float = 0.5,
    ) -> None:
        super().__init__(size, crop_scale=crop_scale, flip=flip, jitter_strength=jitter_strength, blur=0.0)
        self.faulty, self.noisy = faulty, noisy

    def forward(self, images: Tensor, index: Tensor, epoch: int, seed: int) -> tuple[Tensor, ...]:
        first, second = super().forward(images, index, epoch, seed)
        kind = broken(index, seed, self.faulty, self.noisy)
        places = (kind == FAULTY).nonzero().flatten()
        # The only faulty sample of a batch gets its neighbour's view.
        others = places.roll(1) if len(places) > 1 else (places + 1) % len(index)
        mixed = second.clone()
        mixed[places] = second[others]
        mixed[kind == NOISY] = first[kind == NOISY]
        return first, mixed


def broken(index: Tensor, seed: int, faulty: float, noisy: float) -> Tensor:
    """What each sample's pair is: WHOLE, FAULTY or NOISY."""
    draw = uniform((seed, Purpose.SPLIT, 1), index, 1)[:, 0]
    return torch.where(draw < faulty, FAULTY, torch.where(draw < faulty + noisy, NOISY, WHOLE))


class LastLosses(lightning.Callback):
    """Each sample's mean loss in the run's last epoch, in ``last_losses.npz`` of the run's folder."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._sums = torch.zeros(2, trainer.datamodule.train_samples, dtype=torch.float64)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        output = outputs["output"]
        index = torch.cat([pairs.index for pairs in output.pairs]).cpu()
        losses = output.losses.double().cpu()
        self._sums.index_add_(1, index, torch.stack([losses, torch.ones_like(losses)]))

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        total, count = self._sums
        np.savez(Path(trainer.default_root_dir) / "last_losses.npz", losses=(total / count).numpy())


def found(run: RunFolder) -> list[dict[str, Any]]:
    """Precision and recall of one run's flags and of its last epoch's losses, one row a kind of pairs and a choice."""
    config = read_mapping(run.config)[0]
    views = config["data"]["init_args"]["views"]["init_args"]
    losses = torch.from_numpy(np.load(run.path / "last_losses.npz")["losses"])  # NaN where never seen in that epoch
    kind = broken(torch.arange(len(losses)), config["seed_everything"], views["faulty"], views["noisy"])
    flagged = read_rows(run.flagged)
    rows = []
    for name, what, largest in (("faulty", FAULTY, True), ("noisy", NOISY, False)):
        truth = kind == what
        if not truth.any():
            continue
        order = losses.nan_to_num(-torch.inf if largest else torch.inf).argsort(descending=largest)
        chosen = {}
        if flagged:
            mined = torch.tensor(flagged[-1][name], dtype=torch.int64)
            chosen = {"mining": mined, "last loss, as many": order[: len(mined)]}
        chosen["last loss, as many as are broken"] = order[: int(truth.sum())]
        for by, samples in chosen.items():
            rows.append({"kind": name, "by": by, "count": len(samples), **_rates(truth, samples)})
    return rows


def _rates(truth: Tensor, samples: Tensor) -> dict[str, float | None]:
    hits = int(truth[samples].sum())
    return {"precision": hits / len(samples) if len(samples) else None, "recall": hits / int(truth.sum())}


def table(runs: Iterable[RunFolder]) -> str:
    """Markdown: runs of one folder are seeds of one configuration, and are a line together."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for run in runs:
        for row in found(run):
            groups.setdefault((row["kind"], run.path.resolve().parent.name, row["by"]), []).append(row)
    lines = ["| pairs | run | chosen by | samples | precision | recall | seeds |", f"|{' --- |' * 7}"]
    for names, rows in sorted(groups.items(), key=lambda group: group[0][0]):  # the faulty first, else in order
        samples = f"{fmean(row['count'] for row in rows):.0f}"
        numbers = [_percent([row[rate] for row in rows]) for rate in ("precision", "recall")]
        lines.append(f"| {' | '.join([*names, samples, *numbers, str(len(rows))])} |")
    return "\n".join(lines)


def _percent(rates: list[float | None]) -> str:
    known = [100 * rate for rate in rates if rate is not None]
    if len(known) < len(rates):  # nothing was chosen
        return "–"
    if len(known) == 1:
        return f"{known[0]:.1f}"
    over = mean_interval(known)
    return f"{over.mean:.1f} ({over.low:.1f} to {over.high:.1f})"


def main(words: Sequence[str] | None = None) -> int:
    """Print the table: 0, or 2 for a folder that is no run or kept no losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    try:
        print(table(_with_losses(run) for run in parser.parse_args(words).runs))
    except InputError as error:
        print(f"broken_pairs: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _with_losses(path: Path) -> RunFolder:
    run = RunFolder.existing(path)
    if not (run.path / "last_losses.npz").exists():
        raise InputError(
            f"no last_losses.npz in {str(path)!r}: train it with the callback studies.broken_pairs.LastLosses"
        )
    return run


if __name__ == "__main__":
    raise SystemExit(main())
