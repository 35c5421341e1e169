"""The checks for other people's pieces: every built-in piece passes, and each property has a piece that breaks it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contrast import Pairs
from contrast.banks import IVF, FaissBank, Hardest, KeyQueue, MemoryBank, Negatives, Neighbours, Stratified
from contrast.errors import InputError
from contrast.losses import (
    DCLW,
    FixedTemperature,
    InfoNCE,
    NegativeLogits,
    Objective,
    PairTransform,
    PositiveLogits,
    Temperature,
    real_scores,
)
from contrast.models import Backbone, ConvNet, DilatedConvNet, ResNet, ResNet1d
from contrast.testing import check_backbone, check_bank, check_objective, check_temperature, check_transform
from tests.losses.examples import OBJECTIVES, TRANSFORMS, adaptive, learned

TEMPERATURES: dict[str, Callable[[], Temperature]] = {
    "fixed": lambda: FixedTemperature(0.1),
    "learned": learned,
    "adaptive by concatenation": lambda: adaptive(8),
    "adaptive by product": lambda: adaptive(8, form="product"),
}
BACKBONES: dict[str, tuple[Callable[[], Backbone], tuple[int, ...]]] = {
    "ConvNet": (lambda: ConvNet((4, 8), channels=1), (1, 16, 16)),
    "ResNet": (lambda: ResNet("resnet18", image_size=32), (3, 32, 32)),
    "ResNet1d": (lambda: ResNet1d((1, 1), 8, channels=2), (2, 40)),
    "DilatedConvNet": (lambda: DilatedConvNet(8, 4, 3, channels=2), (2, 40)),
}
ONE_EACH = partial(FaissBank, size=48, per_sample=True, mining=Hardest(4))
BANKS: dict[str, Callable[[int], MemoryBank]] = {
    "queue": partial(KeyQueue, size=16),
    "nearest keys": partial(FaissBank, size=16, mining=Hardest(4)),
    "one key a sample": ONE_EACH,
    "stratified": partial(FaissBank, size=16, mining=Stratified(2, 2, 2, 8)),
    "half precision": partial(FaissBank, size=16, mining=Hardest(4), storage="float16"),
    "random rows": partial(FaissBank, size=16, mining=Hardest(4), warmup_steps=50),
    "approximate": partial(ONE_EACH, approximate=IVF(lists=4, effort=2, above=10, every_n_steps=1)),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_built_in_objectives_pass(name: str) -> None:
    check_objective(OBJECTIVES[name](), across_queries=name == "DCLW", holds_positives=name == "DCLW")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_built_in_transforms_pass(name: str) -> None:
    for transform in TRANSFORMS[name]():
        check_transform(transform)


@pytest.mark.parametrize("name", TEMPERATURES)
def test_built_in_temperatures_pass(name: str) -> None:
    check_temperature(TEMPERATURES[name](), width=8)


@pytest.mark.parametrize("name", BACKBONES)
def test_built_in_backbones_pass(name: str) -> None:
    make, shape = BACKBONES[name]
    check_backbone(make(), shape)


@pytest.mark.parametrize("name", BANKS)
def test_built_in_banks_pass(name: str) -> None:
    check_bank(BANKS[name])


class Broken(Objective):
    """InfoNCE plus a flaw."""

    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return InfoNCE()(positive, negatives) + self.flaw(positive, negatives)

    def flaw(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        raise NotImplementedError


class OneNumber(Broken):
    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return InfoNCE()(positive, negatives).mean()


class Narrow(Broken):
    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return InfoNCE()(positive, negatives).float()


class FirstTile(Broken):
    def flaw(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        tile = next(iter(negatives.tiles()))
        return tile.logit.masked_fill(~tile.offered, 0).sum(dim=-1)


class ByPlace(Broken):
    def flaw(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return 0.1 * torch.arange(positive.logit.shape[-1])


class ByColumn(Broken):
    def flaw(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        total = torch.zeros_like(positive.logit)
        for tile in negatives.tiles():
            column = tile.start + torch.arange(tile.logit.shape[-1])
            total = total + (tile.logit.masked_fill(~tile.offered, 0) * column).sum(dim=-1)
        return total


class LessTheMean(Broken):
    def flaw(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return -positive.logit.mean(dim=-1, keepdim=True)


class WithExcluded(Broken):
    def flaw(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return sum((tile.logit.sum(dim=-1) for tile in negatives.tiles()), torch.zeros_like(positive.logit))


class OverHeads(Broken):
    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        losses = InfoNCE()(positive, negatives)
        return losses if losses.ndim == 1 else losses.sum(dim=0)


class MixesHeads(Broken):
    def flaw(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return positive.logit.new_zeros(()) if positive.logit.ndim == 1 else -positive.logit.mean(dim=0)


class FailsWithHeads(Broken):
    def flaw(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        (queries,) = positive.logit.shape
        return positive.logit.new_zeros(queries)


class Overflows(Broken):
    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        plus = positive.logit.exp()
        return -torch.log(plus / (plus + negatives.logsumexp().exp()))


class Detached(Broken):
    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return InfoNCE()(positive, negatives).detach()


class RootOfNothing(Broken):
    def flaw(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        nothing = positive.logit - positive.logit.detach()
        return torch.where(nothing > 0, nothing.sqrt(), 0.0)


class HoldsNegatives(Broken):
    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return negatives.logsumexp().detach() - positive.logit


class Counts(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def flaw(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        self.calls += 1
        return torch.zeros_like(positive.logit)


class PlainTensor(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.offset = torch.zeros(1)


class HoldsFunction(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.function = lambda value: value


class Forgets(Broken):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))

    def flaw(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return self.offset.expand_as(positive.logit)

    def state_dict(self, *args: Any, **settings: Any) -> Any:
        return {}


class RestoresOther(Forgets):
    def load_state_dict(self, *args: Any, **settings: Any) -> Any:
        return None


class NeedsANegative(Broken):
    def forward(self, positive: PositiveLogits, negatives: NegativeLogits) -> Tensor:
        return negatives.logsumexp() - positive.logit


BROKEN_OBJECTIVES: dict[type[Objective], str] = {
    OneNumber: r"gives losses of shape \(\) for 6 queries",
    Narrow: "changes the dtype of its logits: float32 becomes torch.float32 and float64 torch.float32",
    FirstTile: "differs between tiles and the whole matrix by",
    ByPlace: "depends on the order of the queries",
    ByColumn: "depends on the order of the negatives",
    LessTheMean: "of two halves of a batch differs from the whole batch by",
    WithExcluded: "changes by .* with excluded rows",
    OverHeads: r"with two heads gives losses of shape \(6,\)",
    MixesHeads: "mixes heads: head 0 alone has another loss",
    FailsWithHeads: "fails with two heads .ValueError",
    Overflows: r"is not finite at temperature 0\.005 with equal views \(nan\)",
    Detached: "passes no gradient to the queries",
    RootOfNothing: "has a gradient that is not finite at temperature 0.005 with equal views",
    HoldsNegatives: "has a gradient by query of .* where finite differences give",
    Counts: "keeps state from a forward",
    PlainTensor: "PlainTensor.offset is a plain tensor",
    HoldsFunction: "cannot be pickled",
    Forgets: "cannot load its own state_dict: .*offset",
    RestoresOther: "differs by .* after its state_dict is loaded",
    NeedsANegative: "is -inf for a query without negatives",
}


@pytest.mark.parametrize("kind", BROKEN_OBJECTIVES)
def test_each_broken_objective_is_caught(kind: type[Objective]) -> None:
    caught(kind.__name__, BROKEN_OBJECTIVES[kind], partial(check_objective, kind()))


def test_what_an_objective_holds_constant_must_be_said() -> None:
    caught("DCLW", "of two halves", partial(check_objective, DCLW()))
    caught("DCLW", "has a gradient by query", partial(check_objective, DCLW(), across_queries=True))


class TakesBack(PairTransform):
    """What docs/add_a_loss.md once taught: the exclusions of earlier transforms are replaced."""

    def forward(self, pairs: Pairs) -> Pairs:
        score = pairs.query @ pairs.negatives.transpose(-1, -2)
        own = pairs.index[:, None] == pairs.negative_index
        return dataclasses.replace(pairs, excluded=score.masked_fill(own, -torch.inf).topk(1).indices)


class MinesExcluded(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        assert pairs.excluded is not None
        column = pairs.excluded[:, 0]
        rows = pairs.negatives[..., column, :][..., None, :]
        return pairs.with_own(rows, pairs.negative_index[column][:, None], column.new_zeros(1))


class DropsOwn(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        return dataclasses.replace(pairs, own_negatives=None, own_negative_index=None, own_negative_kind=None)


class TurnsQueries(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        return dataclasses.replace(pairs, index=pairs.index.flip(0))


class Noise(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        return dataclasses.replace(pairs, query=pairs.query + 0.1 * torch.rand_like(pairs.query))


class NoiseByPlace(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        noise = torch.rand(pairs.query.shape, generator=torch.Generator().manual_seed(3)).to(pairs.query.dtype)
        return dataclasses.replace(pairs, query=pairs.query + noise)


class WithoutTheFirst(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        return pairs.without(torch.zeros(len(pairs.index), 1, dtype=torch.int64))


class Centred(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        return dataclasses.replace(pairs, query=pairs.query - pairs.query.mean(dim=-2, keepdim=True))


class OneHeadOnly(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        score = real_scores(pairs)
        return pairs.without(score.topk(1).indices)


class TwoShared(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        score = real_scores(pairs)[..., : len(pairs.negative_index)]
        best, columns = score.reshape(-1, *score.shape[-2:]).mean(dim=0).topk(2)
        return pairs.without(columns.masked_fill(best.isneginf(), -1))


class NarrowQueries(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        names = ("query", "positive", "negatives", "own_negatives")
        return dataclasses.replace(pairs, **{name: getattr(pairs, name).float() for name in names})


class DetachedQueries(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        return dataclasses.replace(pairs, query=pairs.query.detach(), positive=pairs.positive.detach())


class Divides(PairTransform):
    def forward(self, pairs: Pairs) -> Pairs:
        apart = pairs.query - pairs.positive
        return dataclasses.replace(pairs, query=pairs.query + 0.1 * apart / apart.norm(dim=-1, keepdim=True))


BROKEN_TRANSFORMS: dict[type[PairTransform], str] = {
    TakesBack: r"takes back an exclusion: sample \d+ was excluded for query 0",
    MinesExcluded: r"takes back an exclusion: sample \d+ was excluded for query \d",
    DropsOwn: "drops or revives own negatives",
    TurnsQueries: "changes Pairs.index",
    Noise: "keeps state from a forward",
    NoiseByPlace: "depends on the order of the queries",
    WithoutTheFirst: "depends on the order of the negatives",
    Centred: "of two halves of a batch differs",
    OneHeadOnly: "fails with two heads .InputError",
    TwoShared: "fails without shared negatives .RuntimeError",
    NarrowQueries: "changes the dtype of the queries: float64 becomes torch.float32",
    DetachedQueries: "passes no gradient to the queries",
    Divides: "is not finite at temperature 0.05 with equal views",
}


@pytest.mark.parametrize("kind", BROKEN_TRANSFORMS)
def test_each_broken_transform_is_caught(kind: type[PairTransform]) -> None:
    caught(kind.__name__, BROKEN_TRANSFORMS[kind], partial(check_transform, kind()))


class Tau(Temperature):
    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return 5 * scores

    def of_score(self, score: Tensor) -> Tensor:
        return 5 * score


class MeanLogit(Tau):
    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return 5 * scores.mean()


class NarrowLogit(Tau):
    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return 5 * scores.float()


class ByMaximum(Tau):
    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return scores / scores.abs().max()


class Falls(Tau):
    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return 5 * scores.abs()


class Pole(Tau):
    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return torch.atanh(scores)


class OtherSingle(Tau):
    def single(self) -> Tensor:
        return torch.tensor(0.5, dtype=torch.float64)


class OtherOfScore(OtherSingle):
    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return scores / 0.5


class NegativeSingle(Tau):
    def single(self) -> Tensor:
        return torch.tensor(-0.2)


class NegativePairs(Tau):
    by_pair = True

    def of_pairs(self, query: Tensor, other: Tensor) -> Tensor:
        return (query * other).sum(dim=-1)


class HoldsQueries(Tau):
    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return scores / (0.3 + 0.1 * query.detach()[..., 0] * other[..., 0])


class HoldsSingle(Tau):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(0.5))

    def forward(self, scores: Tensor, query: Tensor, other: Tensor) -> Tensor:
        return scores / self.value

    def of_score(self, score: Tensor) -> Tensor:
        return score / self.value

    def single(self) -> Tensor:
        return self.value.detach()


BROKEN_TEMPERATURES: dict[type[Temperature], str] = {
    MeanLogit: r"gives logits of shape \(\) for scores of shape \(6, 13\)",
    NarrowLogit: "changes the dtype of the scores: float64 becomes torch.float32",
    ByMaximum: "gives a pair another logit in a matrix than alone",
    Falls: "has a logit that does not rise with the score",
    Pole: "is not finite for a score between",
    OtherSingle: r"OtherSingle.forward differs from score / OtherSingle.single\(\)",
    OtherOfScore: r"OtherOfScore.of_score differs from score / OtherOfScore.single\(\)",
    NegativeSingle: r"NegativeSingle.single\(\) is -0\.2",
    NegativePairs: r"NegativePairs.of_pairs gives shape \(6, 13\) and a smallest τ of -0",
    HoldsQueries: "has a gradient by query of",
    HoldsSingle: "has a gradient by value of .* where finite differences give",
}


@pytest.mark.parametrize("kind", BROKEN_TEMPERATURES)
def test_each_broken_temperature_is_caught(kind: type[Temperature]) -> None:
    caught(kind.__name__, BROKEN_TEMPERATURES[kind], partial(check_temperature, kind()))


class Flat(Backbone):
    """A linear layer over one-channel images."""

    channel_count, given_width = 1, 5

    def __init__(self) -> None:
        super().__init__(self.given_width, self.channel_count)
        self.layer = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layer(images.flatten(1))
        return features

    def describe(self) -> dict[str, Any]:
        return self._card("torch", "linear", None, {}, ["from torch import nn", "net = nn.Linear(16, 5)"])


class OtherWidth(Flat):
    given_width = 6


class OtherChannels(Flat):
    channel_count = 3


class OtherAxes(Flat):
    axes = 1


class BatchStatistic(Flat):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images - images.mean(dim=0))


class Unused(Flat):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)


class DoubleFeatures(Flat):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).double()


class DescribesTensors(Flat):
    def describe(self) -> dict[str, Any]:
        return super().describe() | {"width": torch.tensor(5)}


class DescribesLittle(Flat):
    def describe(self) -> dict[str, Any]:
        return {"library": "torch"}


class CountsImages(Flat):
    def forward(self, images: Tensor) -> Tensor:
        self.seen = getattr(self, "seen", 0) + len(images)
        return super().forward(images)


BROKEN_BACKBONES: dict[type[Backbone], str] = {
    OtherWidth: r"gives features of shape \(4, 5\) for 4 samples, and its width is 6",
    OtherChannels: "has channels=3 and axes=2",
    OtherAxes: "has channels=1 and axes=1",
    BatchStatistic: "in eval mode gives a sample other features in another batch",
    Unused: r"has parameters without gradient \(spare\.weight, spare\.bias\)",
    DoubleFeatures: "changes the dtype of its input",
    DescribesTensors: r"DescribesTensors.describe\(\) is not JSON",
    DescribesLittle: r"DescribesLittle.describe\(\) lacks architecture, channels, class_path",
    CountsImages: "keeps state from a forward",
}


@pytest.mark.parametrize("kind", BROKEN_BACKBONES)
def test_each_broken_backbone_is_caught(kind: type[Backbone]) -> None:
    check_backbone(Flat(), (1, 4, 4))
    caught(kind.__name__, BROKEN_BACKBONES[kind], partial(check_backbone, kind(), (1, 4, 4)))


def test_a_backbone_of_another_package_describes_its_own_class() -> None:
    assert Flat().describe()["class_path"] == "tests.test_testing.Flat"
    assert ConvNet().describe()["class_path"] == "contrast.models.ConvNet"


class Queue(KeyQueue):
    def __init__(self, width: int) -> None:
        super().__init__(width, size=16)


class UnmarkedStart(Queue):
    def negatives(self, query: Tensor, index: Tensor) -> Negatives:
        return Negatives(self.keys, self.index)


class WritesWhenRead(Queue):
    def negatives(self, query: Tensor, index: Tensor) -> Negatives:
        self.steps.add_(1)
        return super().negatives(query, index)


class OtherSamples(Queue):
    def negatives(self, query: Tensor, index: Tensor) -> Negatives:
        found = super().negatives(query, index)
        return dataclasses.replace(found, index=found.index.roll(1))


class UnknownSamples(Queue):
    def negatives(self, query: Tensor, index: Tensor) -> Negatives:
        found = super().negatives(query, index)
        return dataclasses.replace(found, index=torch.full_like(found.index, -1))


class WithGradient(Queue):
    def negatives(self, query: Tensor, index: Tensor) -> Negatives:
        found = super().negatives(query, index)
        return dataclasses.replace(found, keys=found.keys.clone().requires_grad_())


class ByPlaceInBatch(Queue):
    def negatives(self, query: Tensor, index: Tensor) -> Negatives:
        found = super().negatives(query, index)
        own = found.keys[torch.arange(len(query))][:, None]
        return dataclasses.replace(found, own=own, own_index=found.index[torch.arange(len(query))][:, None])


class PlainPointer(Queue):
    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.place = 0

    def store(self, keys: Tensor, index: Tensor) -> None:
        self.pointer.fill_(self.place)
        super().store(keys, index)
        self.place = int(self.pointer)


class Grows(Queue):
    def store(self, keys: Tensor, index: Tensor) -> None:
        super().store(keys, index)
        self.register_buffer("log", torch.zeros(int(self.steps)))


class Aliases(Queue):
    def store(self, keys: Tensor, index: Tensor) -> None:
        super().store(keys, index)
        self.last = (keys, index)

    def stored(self) -> tuple[Tensor, Tensor]:
        return self.last


class MiscountsRows(Queue):
    def filled_rows(self) -> int:
        return min(int(self.filled), 7)


class OtherAbout(Queue):
    def about(self, row: Tensor) -> tuple[Tensor, Tensor]:
        return self.index[row].flip(0), self.written[row]


class FarNeighbours(Queue):
    def neighbours(self, query: Tensor, index: Tensor, count: int) -> Neighbours:
        return super().neighbours(-query, index, count)


BROKEN_BANKS: dict[type[MemoryBank], str] = {
    UnmarkedStart: "without keys has 0 filled rows and offers 16 rows that are not placeholders",
    WritesWhenRead: "WritesWhenRead.negatives changes the bank's state",
    OtherSamples: "offers a row under the number of another sample",
    UnknownSamples: "offers a query its own key as a row of unknown sample",
    WithGradient: "offers rows with gradient",
    ByPlaceInBatch: r"offers a query other rows in another batch \(Negatives.own\)",
    PlainPointer: "goes on differently after its state was loaded",
    Grows: "cannot load its own state into a new bank",
    Aliases: r"Aliases.stored\(\) has 4 keys of 4 samples, and filled_rows\(\) is 16",
    MiscountsRows: r"MiscountsRows.stored\(\) has 16 keys of 16 samples, and filled_rows\(\) is 7",
    OtherAbout: r"OtherAbout: about\(\) and keys_at\(\) describe other rows",
    FarNeighbours: "FarNeighbours.neighbours differs from an exact search",
}


@pytest.mark.parametrize("kind", BROKEN_BANKS)
def test_each_broken_bank_is_caught(kind: type[MemoryBank]) -> None:
    caught(kind.__name__, BROKEN_BANKS[kind], partial(check_bank, kind))


def test_a_bank_in_place_of_what_makes_it_is_refused() -> None:
    with pytest.raises(InputError, match=r"^check_bank makes banks itself, and got one: give partial\(KeyQueue, "):
        check_bank(KeyQueue(8, size=16))
    with pytest.raises(InputError, match=r"^check_objective: objective is the class InfoNCE, and must be an object"):
        check_objective(InfoNCE)  # type: ignore[arg-type]


def caught(name: str, words: str, check: Callable[[], None]) -> None:
    """One sentence in one line that names the piece, the property and the value."""
    with pytest.raises(AssertionError, match=f"^{name}.*") as found:
        check()
    message = str(found.value)
    assert re.search(words, message), message
    assert "\n" not in message
    assert len(message) < 420
