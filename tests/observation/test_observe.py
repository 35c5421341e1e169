"""What a step shows of its pairs, against loops over every pair."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from contrast import Pairs, in_batch_pairs, queue_pairs
from contrast.losses import (
    AdaptiveTemperature,
    BadPairMining,
    BarlowTwins,
    ContrastiveLoss,
    HardNegativeMixing,
    InfoNCE,
    LearnedTemperature,
    NegativeInterpolation,
)
from contrast.losses import contrastive as contrastive_module
from contrast.losses.logits import TiledNegatives
from contrast.observation import Observation, RawRows, observe
from contrast.observation.hardness import hardest_negatives
from contrast.observation.health import Order, Rows, uniformity
from contrast.observation.sums import draws, some_queries
from contrast.pairs import MINED, NOT_OFFERED
from tests.losses.examples import LABELS, OBJECTIVES, TRANSFORMS, against_queue, in_batch
from tests.reference.observation import described, near, queries_of


def rows(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def values(seen: Observation) -> dict[str, float]:
    return seen.scalars()


def compared(row: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every part of the reference's row, and no histogram that it lacks."""
    assert row["gradient"]["effective"]["mean"] == pytest.approx(expected["gradient"].pop("effective"), rel=1e-8)
    assert row["embedding"]["margin"]["mean"] == pytest.approx(expected.pop("margin"))
    expected["coupling"].pop("std")
    near(row, expected)
    histograms = {name for name, part in row.items() if "counts" in part}
    assert histograms == {name for name, part in expected.items() if "counts" in part}
    assert set(row["gradient"]) - {"effective"} == set(expected["gradient"])
    assert ("false_negatives" in row) == ("false_negatives" in expected)


@pytest.mark.parametrize("tiled", [False, True], ids=["dense", "tiled"])
@pytest.mark.parametrize("source", [in_batch, against_queue])
@pytest.mark.parametrize("transforms", TRANSFORMS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_row_is_what_loops_over_every_pair_find(
    objective: str, transforms: str, source: Any, tiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tiled:
        monkeypatch.setattr(contrastive_module, "negative_logits", lambda pairs, tau: TiledNegatives(pairs, tau, 3))
    loss = ContrastiveLoss(OBJECTIVES[objective](), LearnedTemperature(0.3), TRANSFORMS[transforms]()).double()
    pairs = source(1, 6) if source is in_batch else source(1, 6, 14)
    output = loss(pairs)
    labels = LABELS.clone()
    labels[3] = -1
    for told in (None, labels):
        expected = described(queries_of(loss, output.pairs[0], told))
        compared(observe(loss, output, told).row(), expected)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_at_a_very_low_temperature_everything_is_finite(objective: str) -> None:
    loss = ContrastiveLoss(OBJECTIVES[objective](), 0.002)
    pairs = in_batch_pairs(rows(0, 20, 4), rows(1, 20, 4), torch.arange(20))
    row = observe(loss, loss(pairs), LABELS).row()
    assert all(math.isfinite(value) for value in _leaves(row))
    assert row["gradient"]["effective"]["mean"] < 3


def _leaves(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    return [leaf for each in value for leaf in _leaves(each)] if isinstance(value, list) else [value]


def test_ranks_beyond_the_last_group_are_the_rest() -> None:
    pairs = queue_pairs(
        rows(0, 3, 4).double(),
        rows(1, 3, 4).double(),
        rows(2, 700, 4).double(),
        torch.arange(3),
        torch.arange(700) % 90,
    )
    loss = ContrastiveLoss(InfoNCE(), 0.2)
    row = observe(loss, loss(pairs), LABELS).row()
    assert len(row["hardness"]["score"]) == 9
    compared(row, described(queries_of(loss, pairs, LABELS)))


def test_directions_are_added_up() -> None:
    loss = ContrastiveLoss(InfoNCE(), 0.2)
    directions = [against_queue(seed, 5, 9) for seed in (0, 1)]
    queries = [query for pairs in directions for query in queries_of(loss, pairs, LABELS)]
    compared(observe(loss, loss(*directions), LABELS).row(), described(queries))


@pytest.mark.parametrize("transforms", ["none", "all, mixed last", "attraction and mixing"])
@pytest.mark.parametrize("source", [in_batch, against_queue])
def test_of_many_queries_some_are_looked_at(source: Any, transforms: str) -> None:
    loss = ContrastiveLoss(InfoNCE(), 0.2, TRANSFORMS[transforms]())
    pairs = loss(source(1, 8) if source is in_batch else source(1, 8, 14)).pairs[0]
    plain = ContrastiveLoss(InfoNCE(), 0.2)
    output = plain(pairs)
    kept = some_queries(pairs, 5)
    queries = queries_of(plain, kept, LABELS)
    assert len(queries) == 5
    every = {(query.positive, len(query.negatives)) for query in queries_of(plain, pairs, LABELS)}
    assert {(query.positive, len(query.negatives)) for query in queries} < every
    row, expected = observe(plain, output, LABELS, queries=5).row(), described(queries)
    assert sum(row["positive"]["counts"]) == len(pairs.index)  # positives are looked at of all
    for name in ("positive", "separation"):
        row.pop(name), expected.pop(name)
    compared(row, expected)
    order = torch.randperm(len(pairs.index), generator=torch.Generator().manual_seed(0))
    again = some_queries(some_queries(pairs, None), 5)
    other = some_queries(_reordered(pairs, order), 5)
    assert sorted(other.index.tolist()) == sorted(again.index.tolist())


def _reordered(pairs: Pairs, order: Tensor) -> Pairs:
    """Queries in another order; without own negatives."""
    fields = {name: getattr(pairs, name)[order] for name in ("query", "positive", "index", "view")}
    return Pairs(negatives=pairs.negatives, negative_index=pairs.negative_index, **fields)


def test_heads_are_added_up() -> None:
    z = rows(0, 4, 5, 3).double()
    index = torch.arange(5)
    loss = ContrastiveLoss(InfoNCE(), 0.2, [HardNegativeMixing(hardest=3, pairs=2, queries=1, start_epoch=0)])
    pairs = loss(in_batch_pairs(z[:2], z[2:], index)).pairs[0]
    alone = [
        dataclasses.replace(
            pairs,
            **{
                name: getattr(pairs, name)[head]
                for name in ("query", "positive", "negatives", "own_negatives", "own_negative_parents")
            },
        )
        for head in range(2)
    ]
    assert not torch.equal(pairs.own_negative_parents[0], pairs.own_negative_parents[1])
    queries = [query for each in alone for query in queries_of(loss, each, LABELS)]
    plain = ContrastiveLoss(InfoNCE(), 0.2)
    compared(observe(plain, plain(pairs), LABELS).row(), described(queries))


def test_blocks_of_bounded_size_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = against_queue(1, 6, 14)
    loss = ContrastiveLoss(InfoNCE(), 0.2, [HardNegativeMixing(hardest=4, pairs=3, queries=2, start_epoch=0)])
    output = loss(pairs)
    whole = observe(loss, output, LABELS).row()
    monkeypatch.setattr("contrast.observation.blocks._BLOCK", 15)
    near(observe(loss, output, LABELS).row(), whole)


def test_parents_of_mixes_are_the_rows_that_were_mixed() -> None:
    pairs = against_queue(3, 5, 30)
    made = HardNegativeMixing(hardest=6, pairs=4, queries=3, start_epoch=0)(pairs)
    of = {int(sample): row for sample, row in zip(pairs.negative_index, pairs.negatives, strict=True)}
    assert len(of) == 30
    for i, j in itertools.product(range(5), range(7)):
        first, second = made.own_negative_parents[i, j].tolist()
        other = pairs.query[i] if j >= 4 else of[second]
        assert second == -1 or j < 4
        plane = torch.stack([of[first], other])
        inside = torch.linalg.lstsq(plane.T, made.own_negatives[i, j][:, None]).solution.flatten()
        torch.testing.assert_close(inside @ plane, made.own_negatives[i, j])
        assert bool((inside > 0).all())


def test_health_of_embeddings_and_features() -> None:
    z1, z2 = rows(0, 6, 3).double(), rows(1, 6, 3).double()
    pairs = in_batch_pairs(z1, z2, torch.arange(6))
    features, embeddings = torch.randn(12, 20).double(), 3 * torch.cat([z1, z2])
    loss = ContrastiveLoss(InfoNCE(), 0.2)
    row = observe(loss, loss(pairs), None, RawRows(features, embeddings, pairs.index)).row()
    found, q = row["embedding"], pairs.query
    distances = [float((a - b).square().sum()) for a, b in zip(q, pairs.positive, strict=True)]
    assert found["alignment"] == pytest.approx(sum(distances) / 12)
    apart = [math.exp(-2 * float((q[i] - q[j]).square().sum())) for i in range(12) for j in range(12) if i % 6 != j % 6]
    assert found["uniformity"] == pytest.approx(math.log(sum(apart) / len(apart)))
    for part, matrix in ((found, q), (row["features"], features)):
        sigma = torch.linalg.svdvals(matrix)
        p = sigma / sigma.sum()
        assert part["rank_me"] == pytest.approx(math.exp(-float((p * p.log()).sum())), rel=1e-6)
        assert part["width"] == matrix.shape[1]
        assert part["spectrum"]["place"][0] == 1
        for place, value in zip(part["spectrum"]["place"], part["spectrum"]["value"], strict=True):
            if place <= len(sigma):
                assert value == pytest.approx(float(sigma[place - 1] / sigma[0]), rel=1e-3, abs=1e-6)
        deviations = matrix.std(dim=0, correction=0)
        assert part["std"][3] == pytest.approx(
            float(deviations.median() if matrix.shape[1] % 2 else deviations.quantile(0.5)), rel=1e-5
        )
    assert found["norm"] == pytest.approx([3.0] * 7)
    assert row["features"]["norm"][3] == pytest.approx(float(features.norm(dim=1).quantile(0.5)), rel=1e-5)


def test_a_collapse_is_seen_in_every_number() -> None:
    one = rows(0, 1, 8).expand(10, 8).contiguous()
    loss = ContrastiveLoss(InfoNCE(), 0.2)
    row = observe(loss, loss(in_batch_pairs(one[:5], one[5:], torch.arange(5)))).row()
    assert row["embedding"]["rank_me"] == pytest.approx(1, abs=1e-3)
    assert row["embedding"]["uniformity"] == pytest.approx(0, abs=1e-5)
    assert max(row["embedding"]["std"]) < 1e-6
    assert row["gradient"]["effective"]["mean"] == pytest.approx(8)
    assert row["separation"]["auc"] == pytest.approx(0.5)


def test_rows_of_unknown_samples_are_apart_from_each_other() -> None:
    z = rows(0, 6, 3)
    of = [torch.arange(6), torch.full((6,), -1)]
    found = [uniformity(Rows(z, Order(index, draws(index)))) for index in of]
    assert found[0] == pytest.approx(found[1])


def test_only_a_part_of_very_many_rows_is_decomposed_and_it_is_the_same_in_any_order(monkeypatch) -> None:
    monkeypatch.setattr("contrast.observation.health.FEWEST", 7)
    z, loss = rows(0, 2, 20, 4), ContrastiveLoss(InfoNCE(), 0.2)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    features = rows(1, 20, 5)

    def health(kept: Tensor, came: Tensor) -> list[dict[str, Any]]:
        raw = RawRows(features[came], z[0, came], came)
        row = observe(loss, loss(in_batch_pairs(z[0, kept], z[1, kept], kept)), None, raw).row()
        return [row["embedding"]["spectrum"], row["features"]["spectrum"]]

    whole = torch.arange(20)
    one = health(whole, whole)
    for kept, came in ((order, order), (whole, order), (order, whole)):
        near(one, health(kept, came))


def test_another_loss_shows_positives_and_health_alone() -> None:
    pairs = in_batch_pairs(rows(0, 5, 3), rows(1, 5, 3), torch.arange(5))
    one = dataclasses.replace(
        pairs, query=pairs.query[:5], positive=pairs.positive[:5], index=pairs.index[:5], view=None
    )
    loss = BarlowTwins()
    row = observe(loss, loss(one), LABELS).row()
    assert set(row) == {"positive", "embedding"}
    assert sum(row["positive"]["counts"]) == 5
    assert "rank_me" in row["embedding"]


def test_without_negatives_nothing_is_said_of_them() -> None:
    pairs = queue_pairs(rows(0, 4, 3), rows(1, 4, 3), rows(2, 0, 3), torch.arange(4), torch.arange(0))
    loss = ContrastiveLoss(InfoNCE(), 0.2)
    row = observe(loss, loss(pairs), LABELS).row()
    assert set(row) == {"positive", "temperature", "embedding"}


def outranks(pairs: Pairs, i: int, own: bool) -> bool:
    """Whether query i's positive has a larger score than every negative it is offered."""
    others = [
        float(pairs.query[i] @ row)
        for row, of in zip(pairs.negatives, pairs.negative_index.reshape(len(pairs.negatives), -1), strict=True)
        if int(pairs.index[i]) not in of.tolist()
    ]
    if own and pairs.own_negatives is not None and pairs.own_negative_index is not None:
        offered = pairs.own_negative_index[i] != NOT_OFFERED
        others += [float(pairs.query[i] @ row) for row in pairs.own_negatives[i][offered]]
    return float(pairs.query[i] @ pairs.positive[i]) > max(others)


def test_proxy_accuracy_with_and_without_mixes_and_scores_by_kind() -> None:
    query, index = rows(0, 40, 3), torch.arange(40)
    close = torch.nn.functional.normalize(query + 0.6 * rows(1, 40, 3), dim=-1)
    pairs = queue_pairs(query, close, rows(2, 12, 3), index, torch.arange(30, 42))
    loss = ContrastiveLoss(InfoNCE(), 0.2, [HardNegativeMixing(hardest=4, pairs=3, queries=2)])
    output = loss(pairs)
    seen, found = observe(loss, output), values(observe(loss, output))
    (after,) = output.pairs
    for name, own in (("proxy/accuracy", True), ("proxy/accuracy_without_mixes", False)):
        expected = sum(outranks(after, i, own) for i in range(40)) / 40
        assert found[name] == pytest.approx(expected)
    assert 0 < found["proxy/accuracy"] < found["proxy/accuracy_without_mixes"] < 1  # mixes with the query are hard
    scores = torch.einsum("bd,bsd->bs", after.query, after.own_negatives)
    for kind, columns in (("pair_mix", slice(0, 3)), ("query_mix", slice(3, 5))):
        row = seen.row()[kind]
        assert sum(row["counts"]) == scores[:, columns].numel()
        assert row["mean"] == pytest.approx(scores[:, columns].mean().item(), rel=1e-5)
    assert sum(seen.row()["negative"]["counts"]) == 40 * 12 - 10 + 40 * 5
    assert "mined" not in seen.row()


def test_a_banks_rows_are_no_mixes() -> None:
    query, index = rows(0, 40, 3), torch.arange(40)
    close = torch.nn.functional.normalize(query + 0.6 * rows(1, 40, 3), dim=-1)
    own = dataclasses.replace(
        queue_pairs(query, close, rows(2, 4, 3), index, torch.arange(100, 104)),
        own_negatives=rows(3, 40, 5, 3),
        own_negative_index=torch.arange(200, 205).expand(40, 5),
        own_negative_kind=torch.full((5,), MINED),
    )
    plain, mixing = ContrastiveLoss(InfoNCE(), 0.2), HardNegativeMixing(hardest=4, pairs=3, queries=2)
    seen = observe(plain, plain(own))
    assert "proxy/accuracy_without_mixes" not in values(seen)
    assert values(seen)["proxy/accuracy"] == pytest.approx(sum(outranks(own, i, own=True) for i in range(40)) / 40)
    assert sum(seen.row()["mined"]["counts"]) == 200
    mixed = ContrastiveLoss(InfoNCE(), 0.2, [mixing])
    found = values(observe(mixed, mixed(own)))
    assert found["proxy/accuracy_without_mixes"] == values(seen)["proxy/accuracy"] > found["proxy/accuracy"]


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("heads", [(), (2,)])
def test_temperatures_of_each_head(heads: tuple[int, ...], tiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if tiled:
        monkeypatch.setattr(contrastive_module, "negative_logits", lambda pairs, tau: TiledNegatives(pairs, tau, 3))
    torch.manual_seed(0)
    temperature = AdaptiveTemperature(width=4, hidden_width=8)
    pairs = in_batch_pairs(rows(0, *heads, 5, 4), rows(1, *heads, 5, 4), torch.arange(5))
    mixing = HardNegativeMixing(hardest=3, pairs=2, queries=0)
    loss = ContrastiveLoss(InfoNCE(), temperature, [mixing, NegativeInterpolation()])
    output = loss(pairs)
    found = observe(loss, output).row()["temperature"]["heads"]
    (after,) = output.pairs
    for head in range(heads[0] if heads else 1):
        z, positive, others, own = (
            each[head] if heads else each
            for each in (after.query, after.positive, after.negatives, after.own_negatives)
        )
        of_positives = [temperature.of_pairs(a, b).item() for a, b in zip(z, positive, strict=True)]
        of_negatives = [
            temperature.of_pairs(a, b).item()
            for i, a in enumerate(z)
            for b, of in zip(others, after.negative_index.tolist(), strict=True)
            if int(after.index[i]) not in of
        ] + [temperature.of_pairs(a, b).item() for a, made in zip(z, own, strict=True) for b in made]
        of_scores = [float(a @ b) for a, b in zip(z, positive, strict=True)]
        assert found[head]["positive"]["mean"] == pytest.approx(sum(of_positives) / len(of_positives))
        assert found[head]["positive"]["std"] == pytest.approx(
            torch.tensor(of_positives).std(correction=0).item(), rel=1e-3
        )
        relation = torch.corrcoef(torch.tensor([of_positives, of_scores], dtype=torch.float64))[0, 1].item()
        assert found[head]["positive"]["correlation"] == pytest.approx(relation, rel=1e-4)
        assert found[head]["negative"]["mean"] == pytest.approx(sum(of_negatives) / len(of_negatives), rel=1e-5)
        for place, mean in enumerate(found[head]["positive"]["by_score"]):
            inside = [tau for tau, s in zip(of_positives, of_scores, strict=True) if math.floor((s + 1) * 10) == place]
            assert math.isnan(mean) if not inside else mean == pytest.approx(sum(inside) / len(inside))


def test_shares_and_weights_of_flagged_pairs() -> None:
    mining = BadPairMining(samples=6, warmup_epochs=1, noisy=9.0, faulty=1.0)
    loss = ContrastiveLoss(InfoNCE(), 0.5, weighting=mining)
    pairs = in_batch_pairs(rows(0, 6, 4), rows(1, 6, 4), torch.arange(6))
    loss.begin_epoch(0)
    loss(pairs)
    loss.begin_epoch(1)
    output = loss(pairs)
    found = values(observe(loss, output))
    flagged = mining.is_faulty
    assert 0 < flagged.sum() < 6
    assert found["bad_pairs/faulty"] == pytest.approx(flagged.double().mean().item())
    assert found["bad_pairs/noisy"] == 0
    assert found["bad_pairs/weight"] == pytest.approx(output.weights[flagged.repeat(2)].mean().item())


def without_start(pairs: Pairs) -> Pairs:
    """The same pairs, to whom a queue's random start was never offered."""
    assert pairs.placeholder is not None
    real = ~pairs.placeholder
    cut = {"negatives": pairs.negatives[real], "negative_index": pairs.negative_index[real]}
    return dataclasses.replace(pairs, **cut, placeholder=None)


@pytest.mark.parametrize("real", [3, 5, 13, 14])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_queues_random_start_is_in_no_statistic_of_negatives(objective: str, real: int) -> None:
    """As if it was not offered, but for what the loss itself has: its pull, its push and its coupling."""
    loss = ContrastiveLoss(OBJECTIVES[objective](), temperature=0.2).double()
    pairs = against_queue(1, 6, 14, real=real)
    seen, other = (observe(loss, loss(each), LABELS) for each in (pairs, without_start(pairs)))
    row, expected = seen.row(), other.row()
    assert row.pop("placeholders", {"mean": 0}) == {"mean": 14 - real}
    of_scores = ("negative", "hardest", "same_class", "separation", "false_negatives")
    near({name: row.get(name) for name in of_scores}, {name: expected.get(name) for name in of_scores})
    near(row["hardness"]["score"], expected["hardness"]["score"])
    near(row["embedding"], expected["embedding"])
    assert row["gradient"]["negatives"] == expected["gradient"]["negatives"]
    assert values(seen) == values(other)
    if loss.objective.__class__ is InfoNCE:
        near(row["hardness"]["gradient"], expected["hardness"]["gradient"])
        near(row["gradient"]["effective"], expected["gradient"]["effective"])
        assert row["gradient"]["push"] == pytest.approx(row["gradient"]["pull"]), "over all that the loss has"


def test_a_step_that_meets_a_queues_random_start_only_has_no_negatives() -> None:
    loss = ContrastiveLoss(InfoNCE(), temperature=0.2).double()
    seen = observe(loss, loss(against_queue(1, 6, 14, real=0)), LABELS)
    row = seen.row()
    assert row["placeholders"] == {"mean": 14}
    assert sum(row["positive"]["counts"]) == 6
    of_negatives = {"negative", "hardest", "hardness", "gradient", "coupling", "separation", "false_negatives"}
    assert not of_negatives & row.keys()
    assert "margin" not in row["embedding"]
    assert values(seen) == {}


def test_the_gallery_shows_no_row_of_a_queues_random_start() -> None:
    loss = ContrastiveLoss(InfoNCE(), temperature=0.2).double()
    pairs = against_queue(1, 6, 14, real=5)
    found = hardest_negatives(loss, pairs, 8)
    for each, other in zip(found, hardest_negatives(loss, without_start(pairs), 8), strict=True):
        assert [(one.index, one.score) for one in each] == [(one.index, one.score) for one in other]
        assert [one.share for one in each] == pytest.approx([one.share for one in other], rel=1e-5)
    assert {one.index for each in found for one in each} <= set(range(4, 9))
    assert hardest_negatives(loss, against_queue(1, 6, 14, real=0), 8) == [[] for _ in range(6)]
