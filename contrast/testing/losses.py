"""Checks of objectives, transforms and temperatures."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from contrast.checks import checked
from contrast.errors import InputError
from contrast.losses import (
    DenseNegatives,
    InfoNCE,
    Objective,
    PairTransform,
    Temperature,
    TiledNegatives,
    negative_logits,
    positive_logits,
)
from contrast.losses.contrastive import mean_over_positives
from contrast.losses.exclusion import left_out
from contrast.losses.logits import own_negatives_offered
from contrast.losses.temperature import as_temperature
from contrast.pairs import MINED, NOT_OFFERED, Pairs
from contrast.testing.assertions import check_gradient, prepared, require, same, unit_rows

__all__ = ["check_objective", "check_temperature", "check_transform"]

_QUERIES, _SHARED, _OWN, _WIDTH = 6, 13, 3, 8
_BY_HEAD = ("query", "positive", "negatives", "own_negatives")
_LATE = 1000
"""Epoch in which transforms are checked: late enough that every start_epoch is over."""


@checked
def check_objective(objective: Objective, across_queries: bool = False, holds_positives: bool = False) -> None:
    """Check an objective: finite, exact gradient, the same over tiles, in any order and for each head.

    Args:
        objective: the objective. Its module must be importable, so that it can be pickled.
        across_queries: whether the loss of a query depends on other queries, as DCLW's mean does. Two halves of a batch
            are then not compared with the whole batch.
        holds_positives: whether the objective holds a number of the positives constant, as DCLW holds its weights. The
            gradient is then compared for negatives only.

    Raises:
        AssertionError: for the first property that does not hold.

    Example:
        >>> check_objective(InfoNCE())
    """
    name, pairs = type(objective).__name__, _pairs()
    objective = prepared(objective, lambda made: _losses(made, pairs))
    losses = _losses(objective, pairs)
    require(
        losses.shape == pairs.index.shape,
        f"{name} gives losses of shape {tuple(losses.shape)} for {_QUERIES} queries: give one loss for each query, "
        "without a mean",
    )
    narrow = _losses(copy.deepcopy(objective).float(), _converted(pairs, torch.float32))
    require(
        narrow.dtype == torch.float32 and losses.dtype == torch.float64,
        f"{name} changes the dtype of its logits: float32 becomes {narrow.dtype} and float64 {losses.dtype}; a usual "
        "cause is a tensor that is created without dtype=logit.dtype",
    )
    same(
        _losses(objective, pairs, tiled=True),
        losses,
        f"{name} differs between tiles and the whole matrix by {{:.2g}}: take sums from negatives.logsumexp and "
        "negatives.hardest, not from single tiles",
    )
    _check_order(name, losses, lambda each: _losses(objective, each), pairs, across_queries)
    closed = pairs.without(torch.full((_QUERIES, 1), _SHARED - 1))
    same(
        _losses(objective, _excluded_rows_moved(closed)),
        _losses(objective, closed),
        f"{name} changes by {{:.2g}} with excluded rows: a negative of the query's own sample, and a negative in "
        "Pairs.excluded, is not a negative; tiles hold them too, and mark them in `offered`",
    )
    _check_heads(name, lambda each: _losses(objective, each))
    _check_finite(
        name, lambda each, tau: _losses(copy.deepcopy(objective).float(), each, tau), (0.005, 0.05, 1.0, 100.0)
    )
    inputs = ("negatives",) if holds_positives else ("query", "positive", "negatives")
    _check_gradient(name, lambda each: _losses(objective, each), pairs, inputs, objective)
    try:
        alone = _losses(objective, pairs.without(torch.arange(_SHARED + _OWN).expand(_QUERIES, -1)))
    except InputError:
        return
    require(
        bool(alone.isfinite().all()),
        f"{name} is {alone[0].item():g} for a query without negatives: negatives.logsumexp() is -inf there; return a "
        "finite loss, or raise InputError",
    )


@checked
def check_transform(transform: PairTransform) -> None:
    """Check a transform: keeps earlier exclusions, is a function of samples and steps, and of nothing else.

    Args:
        transform: the transform. It is run in epoch 1000 on samples 0 to 40. A transform with labels needs labels for
            these samples.

    Raises:
        AssertionError: for the first property that does not hold.

    Example:
        >>> from contrast.losses import FalseNegativeRemoval
        >>> check_transform(FalseNegativeRemoval(most=2, threshold=0.5))
    """
    name, pairs = type(transform).__name__, _pairs()
    transform = copy.deepcopy(transform)
    transform.begin_epoch(_LATE)
    transform.begin_step(_LATE, _LATE)
    transform = prepared(transform, lambda made: _plain_losses(made(pairs)))
    made = transform(pairs)
    for part in ("index", "view"):
        require(
            torch.equal(getattr(made, part), getattr(pairs, part)),
            f"{name} changes Pairs.{part}: the queries keep their order, number and samples, because random numbers "
            "and weights follow them",
        )
    _check_exclusions(name, pairs, made)
    losses = _plain_losses(made)
    _check_order(name, losses, lambda each: _plain_losses(transform(each)), pairs, across_queries=False)
    _check_heads(name, lambda each: _plain_losses(transform(each)), equal=False)
    single = copy.deepcopy(transform).float()
    _check_finite(name, lambda each, tau: _plain_losses(single(each), tau), (0.05, 1.0))
    narrow = single(_converted(pairs, torch.float32)).query.dtype
    require(
        (made.query.dtype, narrow) == (torch.float64, torch.float32),
        f"{name} changes the dtype of the queries: float64 becomes {made.query.dtype} and float32 {narrow}; a usual "
        "cause is a random number or a constant of another dtype",
    )
    rows, index = pairs.negatives[:0], pairs.negative_index[:0]
    none = dataclasses.replace(pairs, negatives=rows, negative_index=index, excluded=None)
    try:
        transform(none)
    except InputError:
        return
    except Exception as error:
        raise AssertionError(
            f"{name} fails without shared negatives ({type(error).__name__}: {error}): a bank may offer own negatives "
            "only"
        ) from error


@checked
def check_temperature(temperature: Temperature, width: int = 8) -> None:
    """Check a temperature: finite, rising with the score, exact gradient, the same in a matrix and pair by pair.

    Args:
        temperature: the temperature.
        width: width of the embeddings that it reads.

    Raises:
        AssertionError: for the first property that does not hold.

    Example:
        >>> from contrast.losses import FixedTemperature
        >>> check_temperature(FixedTemperature(0.1))
    """
    name, pairs = type(temperature).__name__, _pairs(width=width)
    query, other = pairs.query, pairs.negatives
    score = query @ other.T
    temperature = prepared(temperature, lambda made: made(score, query[:, None], other[None]))
    logit = temperature(score, query[:, None], other[None])
    narrow = copy.deepcopy(temperature).float()(score.float(), query[:, None].float(), other[None].float())
    require(
        logit.shape == score.shape,
        f"{name} gives logits of shape {tuple(logit.shape)} for scores of shape {tuple(score.shape)}: `query` and "
        "`other` broadcast to the shape of the scores, without their last axis",
    )
    require(
        logit.dtype == torch.float64 and narrow.dtype == torch.float32,
        f"{name} changes the dtype of the scores: float64 becomes {logit.dtype} and float32 {narrow.dtype}; convert "
        "its numbers with .to(scores.dtype)",
    )
    alone = [temperature(score[i, j], query[i], other[j]) for i in range(_QUERIES) for j in range(_SHARED)]
    same(
        torch.stack(alone).view_as(logit),
        logit,
        f"{name} gives a pair another logit in a matrix than alone, by {{:.2g}}: the logit of a pair depends on that "
        "pair only, not on a mean or maximum over the scores",
    )
    steps = torch.linspace(-1.5, 1.5, 61, dtype=torch.float64).requires_grad_()
    line = temperature(steps, query[0], other[0])
    (slope,) = torch.autograd.grad(line.sum(), steps)
    require(
        bool(line.isfinite().all() and slope.isfinite().all()),
        f"{name} is not finite for a score between -1.5 and 1.5: extrapolated pairs leave [-1, 1]",
    )
    require(
        bool((line.diff() > 0).all()),
        f"{name} has a logit that does not rise with the score (smallest rise {line.diff().min().item():.2g}): the "
        "hardest negative is chosen by its score",
    )
    tau = temperature.single()
    if tau is not None:
        require(
            tau.ndim == 0 and bool(tau > 0),
            f"{name}.single() is {tau.tolist()}: it is τ, one number above 0",
        )
        for kind, found in (("forward", logit), ("of_score", temperature.of_score(score))):
            same(
                found,
                score / tau,
                f"{name}.{kind} differs from score / {name}.single() by {{:.2g}}: losses use the faster form with "
                "single(); return None unless the logit is score / τ",
            )
    if temperature.by_pair:
        taus = temperature.of_pairs(query[:, None], other[None])
        require(
            taus.shape == score.shape and bool((taus > 0).all()),
            f"{name}.of_pairs gives shape {tuple(taus.shape)} and a smallest τ of {taus.min().item():.2g}: give one τ "
            f"above 0 for each pair, here {tuple(score.shape)}",
        )

    parts = ("query", "positive", "negatives")
    _check_gradient(name, lambda each: _losses(InfoNCE(), each, temperature), pairs, parts, temperature)
    _check_gradient(name, lambda each: _losses(InfoNCE(), each, temperature, tiled=True), pairs, parts, temperature)


def _check_exclusions(name: str, before: Pairs, after: Pairs) -> None:
    """No sample that was excluded for a query is a negative afterwards, neither alone nor in a mix."""
    shared = before.negative_index
    out = left_out(before, 0, len(shared))
    of = after.negative_index if after.negative_index.ndim == 2 else after.negative_index[:, None]
    back = ~left_out(after, 0, len(of))
    own, own_of = own_negatives_offered(after), after.own_negative_index
    kinds, parents = [(back, of[None].expand(_QUERIES, -1, -1))], after.own_negative_parents
    if own_of is not None:
        kinds.append((own, own_of[..., None] if parents is None else parents))
    gone = [set(shared[row].tolist()) | {int(sample)} for row, sample in zip(out, before.index, strict=True)]
    for offered, samples in kinds:
        for query, column in offered.nonzero().tolist():
            found = gone[query].intersection(samples[query, column].tolist())
            require(
                not found,
                f"{name} takes back an exclusion: sample {min(found, default=-1)} was excluded for query {query} and "
                "is among its negatives again; use pairs.without(columns), and real_scores(pairs) to find rows",
            )
    kept = after.own_negatives is not None and after.own_negatives.shape[-2] >= _OWN
    assert before.own_negative_index is not None
    gone_own = before.own_negative_index == NOT_OFFERED
    require(
        kept and own_of is not None and bool((own_of[:, :_OWN] == NOT_OFFERED)[gone_own].all()),
        f"{name} drops or revives own negatives: the own negatives of a bank stay in front; use "
        "pairs.with_own(rows, index, kind)",
    )


def _check_order(
    name: str, losses: Tensor, function: Callable[[Pairs], Tensor], pairs: Pairs, across_queries: bool
) -> None:
    order = torch.tensor([4, 0, 5, 3, 1, 2])
    same(
        function(_queries(pairs, order)),
        losses[order],
        f"{name} depends on the order of the queries, by {{:.2g}}: a usual cause is a random number or an index that "
        "follows the place in the batch instead of the sample",
    )
    turned = torch.arange(_SHARED).flip(0)
    same(
        function(_shared(pairs, turned)),
        losses,
        f"{name} depends on the order of the negatives, by {{:.2g}}: a usual cause is a random number or an index that "
        "follows the column instead of the sample",
    )
    if not across_queries:
        halves = [function(_queries(pairs, torch.arange(_QUERIES)[part])) for part in (slice(0, 3), slice(3, None))]
        same(
            torch.cat(halves),
            losses,
            f"{name} of two halves of a batch differs from the whole batch by {{:.2g}}, so several processes differ "
            "from one: gather what it needs of other queries by contrast.distributed, and say across_queries=True",
        )


def _check_heads(name: str, function: Callable[[Pairs], Tensor], equal: bool = True) -> None:
    pairs = _pairs(heads=2)
    try:
        losses = function(pairs)
    except Exception as error:
        raise AssertionError(
            f"{name} fails with two heads ({type(error).__name__}: {error}): rows then have a head axis, (h, b, d)"
        ) from error
    require(
        tuple(losses.shape) == (2, _QUERIES),
        f"{name} with two heads gives losses of shape {tuple(losses.shape)}, not {(2, _QUERIES)}: use dim=-1",
    )
    for head in range(2 if equal else 0):
        one = {key: value[head] for key, value in vars(pairs).items() if key in _BY_HEAD and value is not None}
        same(
            losses[head],
            function(dataclasses.replace(pairs, **one)),
            f"{name} mixes heads: head {head} alone has another loss, by {{:.2g}}; a usual cause is a sum over dim=0",
        )


def _check_finite(name: str, function: Callable[[Pairs, float], Tensor], temperatures: Sequence[float]) -> None:
    plain = _converted(_pairs(), torch.float32)
    for tau in temperatures:
        for kind, positive in (("equal", plain.query), ("opposite", -plain.query), ("random", plain.positive)):
            query = plain.query.clone().requires_grad_()
            losses = function(dataclasses.replace(plain, query=query, positive=positive), tau)
            require(
                bool(losses.isfinite().all()),
                f"{name} is not finite at temperature {tau:g} with {kind} views ({losses.flatten()[0].item():g}): a "
                "usual cause is exp() of a logit; stay with logarithms",
            )
            live = losses.requires_grad
            gradient = torch.autograd.grad(losses.sum(), query, allow_unused=True)[0] if live else None
            if gradient is None:
                raise AssertionError(
                    f"{name} passes no gradient to the queries: a usual cause is detach(), item() or no_grad()"
                )
            require(
                gradient is not None and bool(gradient.isfinite().all()),
                f"{name} has a gradient that is not finite at temperature {tau:g} with {kind} views: a usual cause is "
                "torch.where around a log, a root or a division that is not finite in the branch not taken",
            )


def _check_gradient(
    name: str, function: Callable[[Pairs], Tensor], pairs: Pairs, parts: Sequence[str], module: nn.Module
) -> None:
    inputs = {part: getattr(pairs, part).clone().requires_grad_() for part in parts}
    live = dataclasses.replace(pairs, **inputs)
    weights = torch.rand(_QUERIES, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    every = inputs | {key: each for key, each in module.named_parameters() if each.requires_grad}
    check_gradient(name, lambda: (function(live) * weights).sum(), every)


def _pairs(heads: int = 0, width: int = _WIDTH) -> Pairs:
    """Six queries, 13 shared negatives of other samples but for two, one excluded each, and three own negatives."""
    front = [heads] if heads else []
    index = torch.arange(_QUERIES)
    own_index = torch.stack([20 + index, index, torch.full_like(index, NOT_OFFERED)], dim=1)
    return Pairs(
        query=unit_rows(1, *front, _QUERIES, width),
        positive=unit_rows(2, *front, _QUERIES, width),
        negatives=unit_rows(3, *front, _SHARED, width),
        index=index,
        negative_index=torch.arange(4, 4 + _SHARED),
        view=torch.zeros_like(index),
        excluded=(3 + index)[:, None],
        own_negatives=unit_rows(4, *front, _QUERIES, _OWN, width),
        own_negative_index=own_index,
        own_negative_kind=torch.full((_OWN,), MINED),
    )


def _converted(pairs: Pairs, dtype: torch.dtype) -> Pairs:
    return dataclasses.replace(pairs, **{name: getattr(pairs, name).to(dtype) for name in _BY_HEAD})


def _excluded_rows_moved(pairs: Pairs) -> Pairs:
    """The pairs with other values in the last shared negative and in the own negatives that are excluded."""
    assert pairs.own_negatives is not None
    own = pairs.own_negatives.masked_fill(~own_negatives_offered(pairs)[..., None], 0.25)
    negatives = torch.cat([pairs.negatives[..., :-1, :], pairs.query[..., :1, :]], dim=-2)
    return dataclasses.replace(pairs, negatives=negatives, own_negatives=own)


def _queries(pairs: Pairs, order: Tensor) -> Pairs:
    """The pairs of these queries, in this order."""
    names = ("index", "view", "excluded", "own_negative_index")
    rows = {name: getattr(pairs, name)[..., order, :] for name in ("query", "positive")}
    return dataclasses.replace(
        pairs,
        **rows,
        own_negatives=pairs.own_negatives[..., order, :, :] if pairs.own_negatives is not None else None,
        **{name: getattr(pairs, name)[order] for name in names},
    )


def _shared(pairs: Pairs, order: Tensor) -> Pairs:
    """The pairs with their shared negatives in this order."""
    assert pairs.excluded is not None
    return dataclasses.replace(
        pairs,
        negatives=pairs.negatives[..., order, :],
        negative_index=pairs.negative_index[order],
        excluded=order.argsort()[pairs.excluded],
    )


def _losses(objective: Objective, pairs: Pairs, tau: float | Temperature = 0.2, tiled: bool = False) -> Tensor:
    temperature = as_temperature(tau)
    negatives = TiledNegatives(pairs, temperature, columns=5) if tiled else DenseNegatives(pairs, temperature)
    losses: Tensor = objective(positive_logits(pairs, temperature), negatives)
    return losses


def _plain_losses(pairs: Pairs, tau: float = 0.5) -> Tensor:
    """InfoNCE of each query and head, with the extra positives that a transform may have made."""
    temperature = as_temperature(tau)
    positive, negatives = positive_logits(pairs, temperature), negative_logits(pairs, temperature)
    if pairs.extra_positives is None:
        losses: Tensor = InfoNCE()(positive, negatives)
        return losses
    return mean_over_positives(InfoNCE(), temperature, pairs, positive, negatives)
