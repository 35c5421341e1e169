"""What is recorded of a memory bank against what its rows and views are known to be."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from contrast.banks import IVF, FaissBank, Hardest, KeyQueue
from contrast.callbacks import BankRecorder
from contrast.errors import InputError
from contrast.methods import MoCo, SimCLR
from contrast.models import ConvNet, LinearHead, MultiHead
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.callbacks.fitting import BATCH, SAMPLES, digits, fit, simclr

HEAD = partial(LinearHead, output_width=6)
ONE_EACH = partial(FaissBank, size=SAMPLES, per_sample=True, mining=Hardest(7))


def recorded(folder: Path, method: Any, every: int = 1, epochs: int = 1, **settings: Any) -> dict[str, list[Any]]:
    recorder = BankRecorder(RunFolder(folder), every_n_steps=every, every_n_epochs=epochs)
    fit(folder, method, [recorder], **settings)
    rows = list(read_rows(folder / "bank.jsonl")) if (folder / "bank.jsonl").exists() else []
    kinds = ("ages", "recall", "freshness")
    return {kind: [row for row in rows if kind in row] for kind in kinds}


def method(kind: str, bank: Any, rate: float = 0.5, heads: int = 0) -> Any:
    torch.manual_seed(0)
    net, optimizer = ConvNet((4, 8), channels=1), partial(torch.optim.SGD, lr=rate)
    head = (lambda width: MultiHead(width, HEAD, heads)) if heads else HEAD
    if kind == "SimCLR":
        return SimCLR(net, head, optimizer=optimizer, bank=bank, rate_scaling="none")
    return MoCo(net, head, bank=bank, momentum=0.5, symmetric=True, optimizer=optimizer, rate_scaling="none")


@pytest.mark.parametrize("bank", [partial(KeyQueue, size=80), partial(FaissBank, size=80, mining=Hardest(80))])
def test_ages_are_how_many_steps_ago_the_rows_met_were_written(bank: Any, tmp_path: Path) -> None:
    made = recorded(tmp_path, method("MoCo", bank), epochs=0)
    assert not made["freshness"]
    # Batches of 32 into 80 rows: after three of them the first one's last 16 rows are left.
    expected = {2: [1] * 32, 3: [1] * 32 + [2] * 32, 4: [1] * 32 + [2] * 32 + [3] * 16}
    expected |= {5: expected[4], 6: expected[4]}
    assert [(row["step"], row["bank"]) for row in made["ages"]] == [(s, b) for s in expected for b in (0, 1)]
    for row in made["ages"]:
        ages = torch.tensor(expected[row["step"]]).double()
        if isinstance(bank(6), FaissBank):
            assert row["ages"]["quantiles"][0] == 1  # rows of the query's own sample are not met
            continue
        assert row["ages"]["mean"] == pytest.approx(float(ages.mean()))
        shares = torch.tensor(row["ages"]["shares"]).double()
        assert row["ages"]["quantiles"] == torch.quantile(ages, shares, interpolation="nearest").tolist()
    means = {row["step"]: row["bank/age"] for row in read_rows(tmp_path / "metrics.jsonl") if "bank/age" in row}
    assert list(means) == list(expected)


def test_one_row_a_sample_ages_by_when_its_sample_came(tmp_path: Path) -> None:
    made = recorded(tmp_path, method("MoCo", partial(ONE_EACH, mining=Hardest(SAMPLES))), epochs=0)
    # In the second epoch each batch of 32 has its rows renewed, and the others' age by a step.
    ages = [row["ages"] for row in made["ages"] if row["bank"] == 0]
    assert [max(row["quantiles"]) for row in ages] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("heads", [0, 2])
@pytest.mark.parametrize("kind", ["MoCo", "SimCLR"])
def test_keys_of_the_last_batch_are_as_fresh_as_can_be(kind: str, heads: int, tmp_path: Path) -> None:
    # As many rows as a batch: batch norm sees the same company as it did in the step. MoCo's key encoder moved before
    # it made the last keys; SimCLR's moves after, so here not at all.
    rate = 0.0 if kind == "SimCLR" else 0.5
    bank = partial(FaissBank, size=BATCH, mining=Hardest(7))
    made = recorded(tmp_path, method(kind, bank, rate, heads), every=0)["freshness"]
    banks = (2 if kind == "MoCo" else 1) * (heads or 1)
    assert [(row["epoch"], row["bank"]) for row in made] == [(e, b) for e in (0, 1) for b in range(banks)]
    for row in made:
        assert row["freshness"]["age"] == [1] * BATCH
        torch.testing.assert_close(torch.tensor(row["freshness"]["cosine"]), torch.ones(BATCH), atol=1e-5, rtol=0)


def test_older_keys_are_less_fresh(tmp_path: Path) -> None:
    made = recorded(tmp_path, method("MoCo", ONE_EACH), every=0)["freshness"][0]["freshness"]
    age, cosine = torch.tensor(made["age"]), torch.tensor(made["cosine"])
    assert sorted(set(age.tolist())) == [1, 2, 3]
    means = [float(cosine[age == steps].mean()) for steps in (1, 2, 3)]
    assert means[0] > means[1] > means[2]


def test_each_cosine_is_that_of_its_row(tmp_path: Path) -> None:
    class Turned(lightning.Callback):
        """Keys of the first epoch point the other way."""

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 0:
                pl_module.queues[0].rows.keys.neg_()

    made = method("MoCo", partial(FaissBank, size=160, mining=Hardest(7)), rate=0.0)
    fit(tmp_path, made, [Turned(), BankRecorder(RunFolder(tmp_path), every_n_steps=0, every_n_epochs=2)])
    row = next(iter(read_rows(tmp_path / "bank.jsonl")))["freshness"]
    found = [(age > 3, cosine < 0) for age, cosine in zip(row["age"], row["cosine"], strict=True)]
    assert set(found) == {(True, True), (False, False)}


def test_another_part_of_the_bank_is_looked_at_each_time(tmp_path: Path) -> None:
    made = recorded(tmp_path, method("MoCo", ONE_EACH), every=0)["freshness"]
    assert [len(row["freshness"]["age"]) for row in made] == [BATCH] * 4
    assert made[0]["freshness"]["age"] != made[-1]["freshness"]["age"]


def test_split_batch_norm_gets_a_batch_that_it_can_split(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = MoCo(ConvNet((4, 8), channels=1), HEAD, bank=ONE_EACH, batch_norm_groups=8)
    assert len(recorded(tmp_path, made, every=0)["freshness"]) == 2


def test_an_approximate_search_says_what_it_finds(tmp_path: Path) -> None:
    lists = IVF(lists=6, effort=2, above=10, every_n_steps=1)
    made = recorded(tmp_path, method("SimCLR", partial(ONE_EACH, approximate=lists)), epochs=0)["recall"]
    assert [row["step"] for row in made] == [3, 4, 5, 6]
    assert all(row["recall"]["neighbours"] == 7 and 0.2 < row["recall"]["recall"] <= 1 for row in made)


def test_a_run_is_the_same_with_and_without_it(tmp_path: Path) -> None:
    watched, alone = (method("MoCo", ONE_EACH) for _ in range(2))
    recorded(tmp_path, watched)
    fit(tmp_path, alone, [])
    for name, value in watched.state_dict().items():
        assert torch.equal(value, alone.state_dict()[name]), name


def test_without_a_bank_there_is_nothing_to_record(tmp_path: Path) -> None:
    assert not any(recorded(tmp_path, simclr()).values())


def test_views_of_an_epoch_are_those_of_its_batches(tmp_path: Path) -> None:
    data, index = digits(), torch.tensor([3, 90])
    first, again, later = (data.views_of(index, epoch).inputs for epoch in (0, 0, 1))
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], later[1])


@pytest.mark.parametrize("wrong", [{"every_n_steps": -1}, {"every_n_epochs": -1}])
def test_numbers_that_cannot_be_are_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"bank\.every_n_steps"):
        BankRecorder(RunFolder(tmp_path), **wrong)
