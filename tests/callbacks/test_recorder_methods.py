"""What a run of each method records, against loops over the pairs that its loss really saw."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from contrast.banks import FaissBank, KeyQueue
from contrast.banks.faiss_bank import Hardest
from contrast.callbacks import PairRecorder, Recorder
from contrast.losses import (
    LOOK,
    AdaptiveTemperature,
    BadPairMining,
    BarlowTwins,
    ContrastiveLoss,
    HardestNegative,
    InfoNCE,
    Loss,
    SupCon,
    VICReg,
)
from contrast.methods import ContrastiveMethod, MoCo
from contrast.models import ConvNet, LinearHead
from contrast.pairs import Pairs
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.callbacks.fitting import SAMPLES, Steps, digits, fit, moco, simclr
from tests.callbacks.test_recorder import check
from tests.methods.small_methods import small
from tests.reference.health import health_of, positives_of, rank_of
from tests.reference.labelled_observation import labelled_queries_of
from tests.reference.observation import Query, described, queries_of


def labels() -> torch.Tensor:
    found = digits().train_labels
    assert found is not None
    return found


def faiss() -> MoCo:
    torch.manual_seed(0)
    bank = partial(FaissBank, size=80, mining=Hardest(12))
    return MoCo(ConvNet((4, 8), channels=1), partial(LinearHead, output_width=6), None, bank, momentum=0.9)


def adaptive() -> ContrastiveMethod:
    """With a temperature that stays as it is: the loops ask it when the run is over."""
    method = simclr(ContrastiveLoss(InfoNCE(), AdaptiveTemperature(6, 8)))
    method.loss.requires_grad_(False)
    return method


MADE: dict[str, Callable[[], ContrastiveMethod]] = {
    "MoCoV3": lambda: small("MoCoV3"),
    "NNCLR": lambda: small("NNCLR", bank=lambda width: KeyQueue(width, 40)),
    "FaissBank": faiss,
    "AMCL": adaptive,
    "HardestNegative": lambda: simclr(ContrastiveLoss(HardestNegative(), 0.2)),
    "DBPM": lambda: simclr(
        ContrastiveLoss(InfoNCE(), 0.2, weighting=BadPairMining(SAMPLES, warmup_epochs=1, noisy=1.0, faulty=1.0))
    ),
    "SupCon": lambda: simclr(SupCon(labels(), 0.2)),
    "LOOK": lambda: moco(LOOK(labels(), 10, 0.2)),
    "BYOL": lambda: small("BYOL"),
    "SimSiam": lambda: small("SimSiam"),
    "Barlow Twins": lambda: small("TwoView", loss=BarlowTwins()),
    "VICReg": lambda: small("TwoView", loss=VICReg()),
}
WITHOUT_NEGATIVES = ("BYOL", "SimSiam", "Barlow Twins", "VICReg")


def loops(loss: Loss, pairs: Pairs) -> list[Query]:
    if isinstance(loss, SupCon | LOOK):
        return labelled_queries_of(loss, pairs, labels(), labels())
    assert isinstance(loss, ContrastiveLoss)
    return queries_of(loss, pairs, labels())


@pytest.mark.parametrize("name", MADE)
def test_rows_of_every_method(name: str, tmp_path: Path) -> None:
    folder, steps, method = RunFolder(tmp_path), Steps(), MADE[name]()
    recorders = [steps, Recorder(folder, every_n_steps=4, queries=None), PairRecorder(folder)]
    fit(tmp_path, method, recorders, limit_train_batches=2)
    recorded = {row["step"]: row for row in read_rows(folder.scores)[1:]}
    assert list(recorded) == [1, 4]
    for step, row in recorded.items():
        pairs = steps.pairs[step - 1]
        of_health(row, pairs, method.loss)
        queries = [] if name in WITHOUT_NEGATIVES else [query for each in pairs for query in loops(method.loss, each)]
        met = any(query.negatives for query in queries)  # a bank is random rows at first
        assert met == (name not in WITHOUT_NEGATIVES and (name, step) not in (("LOOK", 1), ("FaissBank", 1)))
        if met:
            check(row, described(queries))
            continue
        assert "negative" not in row
        if name in WITHOUT_NEGATIVES:
            assert row.keys() == {"step", "epoch", "positive", "embedding", "features"}
        expected = positives_of(pairs)
        assert row["positive"]["mean"] == pytest.approx(expected["mean"], rel=1e-4, abs=1e-6)
        assert sum(abs(a - b) for a, b in zip(row["positive"]["counts"], expected["counts"], strict=True)) <= 4
    gallery = read_rows(folder.gallery)[-1]["queries"]
    assert any(query["negatives"] for query in gallery) == (name not in WITHOUT_NEGATIVES)


def of_health(row: dict[str, Any], pairs: tuple[Pairs, ...], loss: Loss) -> None:
    for part, value in health_of(pairs).items():
        assert row["embedding"][part] == pytest.approx(value, rel=1e-4, abs=1e-5), part
    rows = torch.cat([each.query for each in pairs])
    rows = torch.nn.functional.normalize(rows, dim=-1) if loss.unit_embeddings else rows
    assert row["embedding"]["rank_me"] == pytest.approx(rank_of(rows), rel=1e-4)
    assert row["features"]["width"] == 8


def test_random_is_the_share_of_a_class_among_the_other_samples(tmp_path: Path) -> None:
    """Of a bank that is mined alone too, whose keys say nothing about it."""
    folder, steps = RunFolder(tmp_path), Steps()
    fit(tmp_path, faiss(), [steps, Recorder(folder, 4, queries=None)])
    row = read_rows(folder.scores)[-1]
    every = labels().tolist()
    of_queries = [every[sample] for pairs in steps.pairs[row["step"] - 1] for sample in pairs.index.tolist()]
    shares = [(every.count(label) - 1) / (len(every) - 1) for label in of_queries]
    assert "shared" not in row["false_negatives"]
    assert row["false_negatives"]["random"] == pytest.approx(sum(shares) / len(shares))
    assert row["false_negatives"]["all"] == row["false_negatives"]["mined"] != row["false_negatives"]["random"]
