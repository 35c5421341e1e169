"""FT: pairs pulled apart, negatives mixed, and what that does to scores."""

from __future__ import annotations

import altair as alt
import torch

from contrast.losses import NegativeInterpolation, PositiveExtrapolation, extrapolate, interpolate
from docs.make.method_figures import circle
from docs.make.method_figures.digits import against_queue, embedded
from docs.make.method_figures.drawing import (
    NEGATIVE,
    POSITIVE,
    QUERY,
    SERIES,
    Layer,
    beside,
    colours,
    densities,
    panel,
    table,
    x_axis,
    y_axis,
)

STEP = 1.45


def draw() -> alt.TopLevelMixin:
    upper = beside(_positives(), _negatives(), spacing=96)
    return alt.vconcat(upper, beside(_shift(), _scores()), spacing=36).resolve_scale(color="independent")


def _positives() -> alt.LayerChart:
    queries, keys = circle.at(105, 340, 215), circle.at(65, 5, 240)
    far_queries, far_keys = extrapolate(queries, keys, torch.tensor(STEP, dtype=torch.float64))
    rows: list[Layer] = [
        circle.circle(1.3),
        circle.segments(queries, keys, POSITIVE, dash=(3, 3)),
        circle.arrows(queries, far_queries, QUERY),
        circle.arrows(keys, far_keys, POSITIVE),
        circle.dots(queries, QUERY),
        circle.dots(keys, POSITIVE),
        circle.dots(far_queries, QUERY, filled=False),
        circle.dots(far_keys, POSITIVE, filled=False),
        circle.named(far_queries[0], "q′", QUERY),
        circle.named(far_keys[0], "k′", POSITIVE),
        circle.named(0.8 * queries[0], "q", QUERY, away=0),
        circle.named(0.8 * keys[0], "k", POSITIVE, away=0),
    ]
    note = f"Three pairs, λ = {STEP:g}: apart along their own line, off the circle"
    return panel(*rows, title="Positive extrapolation", note=note, width=300, height=300)


def _negatives() -> alt.LayerChart:
    keys = circle.at(15, 75, 130, 185, 240, 310)
    permutation = torch.tensor([2, 5, 3, 1, 0, 4])
    mixed = interpolate(keys, permutation, torch.tensor(0.6, dtype=torch.float64))
    rows: list[Layer] = [
        circle.circle(1.3),
        circle.segments(keys, keys[permutation], NEGATIVE, dash=(2, 4), width=0.8),
        circle.arrows(keys, mixed, NEGATIVE),
        circle.dots(keys, NEGATIVE),
        circle.dots(mixed, NEGATIVE, filled=False),
    ]
    note = "Six rows, λ = 0.6: each goes towards its partner, inside the circle"
    return panel(*rows, title="Negative interpolation", note=note, width=300, height=300)


def _shift() -> alt.LayerChart:
    pairs = against_queue(embedded(5), 400, 512)
    before = (pairs.query * pairs.positive).sum(dim=-1)
    kinds: dict[str, list[object]] = {"kind": [], "before": [], "after": []}
    for kind, each in (("one λ a pair", "pair"), ("one λ a dimension", "dimension")):
        moved = PositiveExtrapolation(each=each)(pairs)  # type: ignore[arg-type]  # a Literal, lost in the loop
        kinds["kind"] += [kind] * 130
        kinds["before"] += before[:130].tolist()
        kinds["after"] += (moved.query * moved.positive).sum(dim=-1)[:130].tolist()
    chosen = dict(zip(("one λ a pair", "one λ a dimension"), (SERIES[2], SERIES[3]), strict=True))
    points = (
        alt.Chart(table(**kinds))
        .mark_point(filled=True, size=16, opacity=0.55, clip=True)
        .encode(
            x=x_axis("before", "score s before", [-0.2, 1.0]),
            y=y_axis("after", "score s′ after", [-4, 1.2]),
            color=colours("kind", chosen, columns=2, symbol="circle"),
        )
    )
    bounds = table(bound=["λ = 1"] * 2 + ["λ = 2"] * 2, before=[-0.2, 1.0] * 2, after=[-0.2, 1.0, -5.0, 1.0])
    lines = alt.Chart(bounds).mark_line(strokeWidth=1.2, color=QUERY, clip=True)
    dash = alt.StrokeDash("bound:N", scale=alt.Scale(domain=["λ = 1", "λ = 2"], range=[[1, 0], [4, 3]]), legend=None)
    note = "Digits after 5 epochs; bounds: solid λ = 1, dashed λ = 2"
    bounded = lines.encode(x="before:Q", y="after:Q", strokeDash=dash)
    return panel(points, bounded, title="Easy pairs made hard", note=note, width=330, height=240)


def _scores() -> alt.LayerChart:
    pairs = against_queue(embedded(5), 400, 512)
    moved = NegativeInterpolation(each="row")(PositiveExtrapolation(each="pair")(pairs))
    kept = NegativeInterpolation(each="row")(pairs)
    scores = {
        "before": pairs.query @ pairs.negatives.T,
        "interpolated": pairs.query @ kept.negatives.T,
        "both": moved.query @ moved.negatives.T,
    }
    chosen = dict(zip(scores, (NEGATIVE, SERIES[4], SERIES[3]), strict=True))
    drawn = densities(scores, chosen, (-1.2, 1.4), "score of a negative")
    note = "Mixing narrows the scores; the moved, longer query widens them"
    return panel(*drawn, title="Negatives before and after", note=note, width=330, height=240)
