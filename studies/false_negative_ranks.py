"""How often is the r-th nearest key of another sample of the query's own class? Measured on labelled runs.

    python -m studies.false_negative_ranks RUN... [--figure FILE.svg]

Queries and keys are two fresh views of every training sample, by the run's encoder and its key encoder, with batch norm
as in evaluation: the bank of every sample as it would be if all of its keys were new. Labels are for looking alone.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import lightning
import torch
from torch import Tensor, nn

from contrast.banks.bank import nearest_of_others
from contrast.commands.building import build, evaluation_parser, import_from_here, resolve
from contrast.commands.configuration import read_yaml
from contrast.data import TrainingData
from contrast.errors import InputError
from contrast.evaluation import mean_interval
from contrast.methods import ContrastiveMethod
from contrast.methods.base import unit_rows
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint
from docs.make.method_figures.drawing import MUTED, SERIES, colours, panel, said, svg, table, x_axis, y_axis

MOST = 1024
BANDS = ((1, 1), (2, 10), (11, 100), (101, 300), (301, MOST))
EPOCH = 1_000_000  # whose views no run has trained on
NEAREST, THRESHOLD = 10, 0.9  # what FalseNegativeRemoval takes out in the grids


@dataclass(frozen=True)
class Ranks:
    """One run's.

    Attributes:
        rate: share of queries whose neighbour of each rank is of their class, (ranks,).
        chance: that share of all other samples.
        near: score of the neighbour of each rank, mean over queries.
        removed: how many of a query's 10 nearest are above 0.9, mean over queries.
        precision: the share of those that are of the query's class; None where there are none.
    """

    rate: Tensor
    chance: float
    near: Tensor
    removed: float
    precision: float | None


def measure(run: RunFolder) -> Ranks:
    """The ranks of one run's training set under its last checkpoint."""
    method, data = _loaded(run)
    labels = data.train_labels
    if labels is None:
        raise InputError(f"{str(run.path)!r} was trained on samples without labels: nothing to compare")
    query, key = _embedded(method, data)
    sample = torch.arange(len(query))
    found = nearest_of_others(query, sample, key, sample, min(MOST, len(query) - 1))
    same = labels[found.row] == labels[:, None]
    counts = torch.bincount(labels).double()
    above = found.score[:, :NEAREST] > THRESHOLD
    return Ranks(
        rate=same.double().mean(dim=0),
        chance=float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1))),
        near=found.score.double().mean(dim=0),
        removed=float(above.sum(dim=1).double().mean()),
        precision=float(same[:, :NEAREST][above].double().mean()) if above.any() else None,
    )


def _loaded(run: RunFolder) -> tuple[ContrastiveMethod, TrainingData]:
    config = read_yaml(run.config)
    import_from_here()
    parser = evaluation_parser(with_model=True)
    lightning.seed_everything(config["seed_everything"], verbose=False)
    typed, _ = resolve(parser, {name: config[name] for name in ("seed_everything", "model", "data")})
    built = build(parser, typed)
    method: ContrastiveMethod = built.model
    # Banks are left as they are: keys are made anew.
    banks = tuple(f"{name}." for name, module in method.named_modules() if module in method.banks())
    state = read_checkpoint(run.last_checkpoint)["state_dict"]
    wrong = method.load_state_dict({k: v for k, v in state.items() if not k.startswith(banks)}, strict=False)
    if wrong.unexpected_keys or not all(name.startswith(banks) for name in wrong.missing_keys):
        raise InputError(f"{str(run.last_checkpoint)!r} is of another architecture than its configuration says")
    return method.eval(), built.data


@torch.no_grad()
def _embedded(method: ContrastiveMethod, data: TrainingData) -> tuple[Tensor, Tensor]:
    queries, keys = [], []
    source = method.key_source(0)
    encoder = nn.Sequential(method.backbone, method.head)
    for index in torch.arange(data.train_samples).split(512):
        views = data.views_of(index, EPOCH).inputs
        assert isinstance(views, tuple)
        query = unit_rows(encoder(views[1 - source.view]), method.loss)
        key = unit_rows(source.encoder(views[source.view]), method.loss)
        queries.append(query if source.head is None else query[source.head])
        keys.append(key if source.head is None else key[source.head])
    return torch.cat(queries), torch.cat(keys)


def rows_of(groups: dict[str, list[Ranks]]) -> str:
    """Markdown: a line a configuration, mean and interval over its seeds."""
    heads = [f"rank {low}" if low == high else f"{low} to {high}" for low, high in BANDS]
    heads = ["run", *heads, "all", f"of the {NEAREST} nearest above {THRESHOLD}", "of the class", "seeds"]
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for name, ranks in groups.items():
        cells = [_percent([_mean(each.rate[low - 1 : high]) for each in ranks]) for low, high in BANDS]
        cells.append(f"{100 * ranks[0].chance:.1f}")
        cells.append(f"{sum(each.removed for each in ranks) / len(ranks):.1f}")
        cells += [_percent([each.precision for each in ranks]), str(len(ranks))]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines)


def _mean(rates: Tensor) -> float | None:
    return float(rates.mean()) if len(rates) else None  # no data set is too small to be looked at


def _percent(found: list[float | None]) -> str:
    shares = [share for share in found if share is not None]
    if len(shares) < len(found):
        return "–"
    if len(shares) == 1:
        return f"{100 * shares[0]:.1f}"
    over = mean_interval([100 * share for share in shares])
    return f"{over.mean:.1f} ({over.low:.1f} to {over.high:.1f})"


def draw(groups: dict[str, list[Ranks]]) -> alt.TopLevelMixin:
    """Rate over rank, a line a configuration, the seeds' span as a band."""
    chosen = dict(zip(groups, SERIES[: len(groups)], strict=True))
    places = torch.unique((torch.logspace(0, 10, 60, base=2)).round().long())
    columns: dict[str, list[Any]] = {"run": [], "rank": [], "mean": [], "low": [], "high": []}
    for name, ranks in groups.items():
        rates = torch.stack([each.rate for each in ranks])
        edges = [0, *places[places <= rates.shape[1]].tolist()]
        for start, stop in itertools.pairwise(edges):
            band = 100 * rates[:, start:stop].mean(dim=1)
            values = [name, stop, *(float(each) for each in (band.mean(), band.min(), band.max()))]
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    across = x_axis("rank", "rank of the neighbour", (1, MOST), log=True, values=[1, 3, 10, 30, 100, 300, 1000])
    base = alt.Chart(table(**columns)).encode(x=across, color=colours("run", chosen, columns=3, symbol="stroke"))
    up = y_axis("mean", "of the query's class (%)", (0, 100))
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q"), y2="high:Q")
    chance = 100 * next(iter(groups.values()))[0].chance
    rule = alt.Chart(table(y=[chance])).mark_rule(strokeDash=[4, 3], color=MUTED).encode(y="y:Q")
    words = said(1.15, chance, "a random other sample", dy=-9)
    title, note = "False negatives by rank", "Mean over seeds, and their span; labels are for looking alone"
    return panel(band, base.mark_line(strokeWidth=2).encode(y=up), rule, words, title=title, note=note, width=560)


def main(words: Sequence[str] | None = None) -> int:
    """Print the table: 0, or 2 for a folder that is no run or has no labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="runs of one folder are seeds of one line")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="SVG")
    arguments = parser.parse_args(words)
    try:
        lines = len({path.resolve().parent.name for path in arguments.runs})
        if arguments.figure is not None and lines > len(SERIES):
            raise InputError(f"--figure has colours for {len(SERIES)} lines, and the runs are of {lines} folders")
        groups: dict[str, list[Ranks]] = {}
        for path in arguments.runs:
            run = RunFolder.existing(path)
            groups.setdefault(run.path.resolve().parent.name, []).append(measure(run))
            print(f"{path}", file=sys.stderr)
    except InputError as error:
        print(f"false_negative_ranks: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(rows_of(groups))
    if arguments.figure is not None:
        arguments.figure.write_text(svg(draw(groups)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
