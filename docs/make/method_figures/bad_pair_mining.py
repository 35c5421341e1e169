"""DBPM: samples' mean losses over a short run with pairs broken on purpose, the thresholds, and the weights."""

from __future__ import annotations

import altair as alt
import torch

from contrast.losses import BadPairMining, ContrastiveLoss, InfoNCE, bad_pair_weights
from docs.make.method_figures.digits import SEED, encoder, images, pretrain
from docs.make.method_figures.drawing import (
    INK,
    MUTED,
    NEGATIVE,
    POSITIVE,
    SERIES,
    colours,
    panel,
    said,
    table,
    x_axis,
    y_axis,
)
from studies.broken_pairs import FAULTY, NOISY, WHOLE, BrokenViews, broken

SHARE, EPOCHS, NOISY_AT, FAULTY_AT = 0.05, 20, 2.0, 3.0
KINDS = {
    "whole pair": (WHOLE, "#b9bec6"),
    "faulty: views of two images": (FAULTY, NEGATIVE),
    "noisy: one view twice": (NOISY, POSITIVE),
}
WIDTH = 700


def draw() -> alt.TopLevelMixin:
    samples = len(images()[0])
    mining = BadPairMining(samples, warmup_epochs=EPOCHS, noisy=NOISY_AT, faulty=FAULTY_AT)
    recipe = BrokenViews(SHARE, SHARE, size=8, crop_scale=(0.3, 1.0), flip=0.0, jitter_strength=0.5)
    pretrain(encoder(), ContrastiveLoss(InfoNCE(), 0.2, weighting=mining), EPOCHS, recipe)
    mining.begin_epoch(EPOCHS)  # takes the thresholds from the epochs before
    return alt.vconcat(_history(mining), _weights(mining), spacing=24).resolve_scale(color="independent")


def _history(mining: BadPairMining) -> alt.LayerChart:
    losses = (mining.total / mining.count.clamp(min=1)).float()
    kind = broken(torch.arange(len(losses)), SEED, SHARE, SHARE)
    edges = torch.linspace(*_span(mining), 61)
    rows: dict[str, list[object]] = {"kind": [], "low": [], "high": [], "from": [], "to": []}
    floor = torch.zeros(60)
    for name, (what, _) in KINDS.items():
        counts = torch.histogram(losses[kind == what], edges).hist
        rows["kind"] += [name] * 60
        rows["low"] += edges[:-1].tolist()
        rows["high"] += edges[1:].tolist()
        rows["from"] += floor.tolist()
        rows["to"] += (floor + counts).tolist()
        floor = floor + counts
    kept = [place for place, (low, high) in enumerate(zip(rows["from"], rows["to"], strict=True)) if low != high]
    bars = alt.Chart(table(**{name: [column[place] for place in kept] for name, column in rows.items()}))
    top = float(floor.max()) * 1.14
    marks = bars.mark_rect(stroke="white", strokeWidth=0.4).encode(
        x=x_axis("low", "", _span(mining), labels=False, ticks=False),
        x2="high:Q",
        y=y_axis("from", "samples", [0, top], values=[0, 50, 100]),
        y2="to:Q",
        color=colours("kind", {name: colour for name, (_, colour) in KINDS.items()}, columns=3),
    )
    low, high = _thresholds(mining)
    noisy, faulty = (
        f"{int((flags & (kind == what)).sum())} of {int((kind == what).sum())} flagged, "
        f"{int((flags & (kind != what)).sum())} others"
        for flags, what in ((mining.is_noisy, NOISY), (mining.is_faulty, FAULTY))
    )
    words = [
        said(low, 0.94 * top, noisy, POSITIVE, dx=8),
        said(high, 0.94 * top, faulty, NEGATIVE, dx=8),
    ]
    note = (
        f"{len(losses):,} digits over {EPOCHS} epochs, InfoNCE at τ = 0.2, some pairs broken on purpose; "
        f"dashed: μ − {NOISY_AT:g}σ and μ + {FAULTY_AT:g}σ"
    )
    return panel(
        marks, _rules(mining), *words, title="Mean loss of each sample so far", note=note, width=WIDTH, height=240
    )


def _weights(mining: BadPairMining) -> alt.LayerChart:
    present = torch.linspace(*_span(mining), 141)
    rows: dict[str, list[object]] = {"kind": [], "loss": [], "weight": []}
    chosen = {
        "flagged, bell (default)": SERIES[3],
        "flagged, density (the paper's)": SERIES[4],
        "not flagged": MUTED,
    }
    past = [_thresholds(mining)[1], _thresholds(mining)[1], float(mining.mean)]
    for kind, history, density in zip(chosen, past, (False, True, False), strict=True):
        weight = bad_pair_weights(
            present,
            torch.full_like(present, history + 1e-4),
            mining.mean.float(),
            mining.deviation.float(),
            NOISY_AT,
            FAULTY_AT,
            density,
        )
        rows["kind"] += [kind] * len(present)
        rows["loss"] += present.tolist()
        rows["weight"] += weight.tolist()
    line = (
        alt.Chart(table(**rows))
        .mark_line(strokeWidth=2.2)
        .encode(
            x=x_axis("loss", "loss of a sample", _span(mining)),
            y=y_axis("weight", "weight"),
            color=colours("kind", chosen, columns=3, symbol="stroke"),
        )
    )
    note = f"μ = {float(mining.mean):.2f}, σ = {float(mining.deviation):.2f}: the density is above 1 where σ < 0.4"
    return panel(line, _rules(mining), title="Weight at the present loss", note=note, width=WIDTH, height=170)


def _rules(mining: BadPairMining) -> alt.Chart:
    low, high = _thresholds(mining)
    places = table(x=[low, high])
    return alt.Chart(places).mark_rule(color=INK, strokeDash=[4, 3], strokeWidth=1.2).encode(x="x:Q")


def _thresholds(mining: BadPairMining) -> tuple[float, float]:
    mean, deviation = float(mining.mean), float(mining.deviation)
    return mean - NOISY_AT * deviation, mean + FAULTY_AT * deviation


def _span(mining: BadPairMining) -> tuple[float, float]:
    losses = mining.total / mining.count.clamp(min=1)
    return float(losses.min()) - 0.15, float(losses.max()) + 0.15
