"""Every sample's history against loops over the steps, and the gallery against the pairs that it shows."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from PIL import Image
from safetensors.torch import load_file

from contrast import Pairs, in_batch_pairs
from contrast.callbacks import PairRecorder
from contrast.callbacks.pair_history import PairHistory, histories_of
from contrast.data.series import SeriesData, SeriesViews
from contrast.data.series.data import drawn
from contrast.errors import InputError
from contrast.losses import BadPairMining, ContrastiveLoss, HardNegativeMixing, InfoNCE, Loss, LossOutput
from contrast.methods import SimCLR
from contrast.models import ConvNet, DilatedConvNet, LinearHead, MultiHead
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.callbacks.fitting import SAMPLES, Steps, digits, fit, moco, simclr
from tests.callbacks.test_recorder import Distance
from tests.data.series.test_series_data import Items
from tests.losses.examples import rows
from tests.reference.observation import queries_of, ranked


class Losses(Steps):
    """What every step really was, with each query's loss and weight."""

    def __init__(self) -> None:
        super().__init__()
        self.each: list[tuple[torch.Tensor | None, torch.Tensor | None]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_start(trainer, pl_module)
        pl_module.loss.register_forward_hook(
            lambda module, inputs, output: self.each.append((output.losses, output.weights))
        )


def by_sample(steps: Losses, epoch: int) -> dict[str, dict[int, float]]:
    """Means over the queries of each sample in an epoch of three steps."""
    found: dict[str, dict[int, list[float]]] = {"loss": {}, "positive": {}, "weight": {}}
    for step in range(3 * epoch, 3 * epoch + 3):
        place = 0
        losses, weights = steps.each[step]
        for pairs in steps.pairs[step]:
            for i, sample in enumerate(pairs.index.tolist()):
                score = float(pairs.query[i].double() @ pairs.positive[i].double())
                found["positive"].setdefault(sample, []).append(score)
                if losses is not None:
                    found["loss"].setdefault(sample, []).append(float(losses[place]))
                found["weight"].setdefault(sample, []).append(1.0 if weights is None else float(weights[place]))
                place += 1
    return {name: {sample: sum(each) / len(each) for sample, each in of.items()} for name, of in found.items()}


@pytest.mark.parametrize("loss", [None, "mining", "another"])
def test_files_hold_what_every_samples_queries_were(loss: str | None, tmp_path: Path) -> None:
    mining = BadPairMining(samples=SAMPLES, warmup_epochs=1, noisy=1.0, faulty=1.0)
    made: dict[str | None, Loss | None] = {
        None: None,
        "mining": ContrastiveLoss(InfoNCE(), 0.2, weighting=mining),
        "another": Distance(),
    }
    steps, folder = Losses(), RunFolder(tmp_path)
    fit(tmp_path, simclr(made[loss]), [steps, PairRecorder(folder)])
    assert [path.stem for path in sorted(folder.pairs.iterdir())] == ["all_epochs", "epoch-00000", "epoch-00001"]
    epochs = [by_sample(steps, epoch) for epoch in range(2)]
    for epoch, expected in enumerate(epochs):
        tensors = load_file(folder.pairs / f"epoch-{epoch:05}.safetensors")
        assert {name: each.dtype for name, each in tensors.items()} == {
            "loss": torch.float16, "positive": torch.float16, "weight": torch.float16, "flag": torch.uint8,
        }  # fmt: skip
        for sample in range(SAMPLES):
            for name in ("loss", "positive", "weight"):
                value = float(tensors[name][sample])
                assert value == pytest.approx(expected[name][sample], rel=2e-3, abs=1e-3)
    if loss == "mining":
        assert tensors["flag"].tolist() == (mining.is_noisy + 2 * mining.is_faulty).tolist()
        assert {1, 2} < set(tensors["flag"].tolist())
    whole = load_file(folder.pairs / "all_epochs.safetensors")
    for sample in range(SAMPLES):
        assert whole["seen"][sample] == 2
        for name in ("loss", "positive"):
            one, other = (epoch[name][sample] for epoch in epochs)
            assert float(whole[f"{name}_mean"][sample]) == pytest.approx((one + other) / 2, rel=1e-5)
            assert float(whole[f"{name}_std"][sample]) == pytest.approx(abs(one - other) / 2, rel=1e-3, abs=1e-5)


def test_samples_that_were_not_seen_have_no_number(tmp_path: Path) -> None:
    fit(tmp_path, simclr(), [PairRecorder(RunFolder(tmp_path))], limit_train_batches=2)
    tensors = load_file(tmp_path / "pairs" / "epoch-00001.safetensors")
    assert int(tensors["loss"].isnan().sum()) == SAMPLES - 64
    whole = load_file(tmp_path / "pairs" / "all_epochs.safetensors")
    assert (whole["seen"] == 0).equal(whole["loss_mean"].isnan())
    assert set(whole["seen"].tolist()) == {0, 1, 2}


def test_so_many_epochs_are_kept_and_the_last_one(tmp_path: Path) -> None:
    fit(tmp_path, simclr(), [PairRecorder(RunFolder(tmp_path), epochs=3, gallery=1)], max_epochs=8)
    kept = [path.stem for path in sorted((tmp_path / "pairs").glob("epoch*"))]
    assert kept == ["epoch-00002", "epoch-00005", "epoch-00007"]
    assert [row["epoch"] for row in read_rows(tmp_path / "gallery.jsonl")] == [7]
    of_two = histories_of(tmp_path / "pairs", [5, 3], until=7)
    assert of_two[5]["epoch"] == of_two[3]["epoch"] == [2, 5, 7]
    losses = [float(load_file(path)["loss"][3]) for path in sorted((tmp_path / "pairs").glob("epoch*"))]
    assert of_two[3]["loss"] == pytest.approx(losses, abs=1e-5) != of_two[5]["loss"]
    # A run that goes on from before knows nothing of what is still to come.
    assert histories_of(tmp_path / "pairs", [5], until=6)[5]["epoch"] == [2, 5]


def test_unknown_samples_have_no_history() -> None:
    history = PairHistory(4, torch.device("cpu"))
    pairs = in_batch_pairs(rows(0, 3, 4), rows(1, 3, 4), torch.tensor([2, 3, 9]))
    unknown = torch.where(pairs.index == 3, -1, pairs.index)
    pairs = dataclasses.replace(pairs, index=unknown)
    history.add(ContrastiveLoss(InfoNCE(), 0.5)(pairs))
    assert history.end_epoch(None).loss.isnan().tolist() == [True, True, False, True]


class SaveAt(lightning.Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path, weights_only=False)


def test_a_run_resumed_in_mid_epoch_writes_the_same(tmp_path: Path) -> None:
    written = []
    for name in ("whole", "resumed"):
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir()
        if name == "whole":
            fit(folder.path, simclr(), [PairRecorder(folder), SaveAt(4, tmp_path / "kept.ckpt")])
        else:
            fit(folder.path, simclr(), [PairRecorder(folder)], resume=tmp_path / "kept.ckpt")
        written.append({path.name: path.read_bytes() for path in folder.pairs.glob("*1.safetensors")})
        written[-1]["all"] = (folder.pairs / "all_epochs.safetensors").read_bytes()
    assert set(written[0]) == {"epoch-00001.safetensors", "all"}
    assert written[0] == written[1]


def part(history: PairHistory, kept: slice) -> None:
    pairs = in_batch_pairs(rows(0, 8, 4)[kept], rows(1, 8, 4)[kept], torch.arange(8)[kept])
    history.add(ContrastiveLoss(InfoNCE(), 0.5)(pairs))


def work(rank: int, cuts: list[slice], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(cuts))
    history = PairHistory(9, torch.device("cpu"))
    part(history, cuts[rank])
    state = history.state()
    again = PairHistory(9, torch.device("cpu"))
    again.load(state)
    torch.save((state["sums"], history.end_epoch(None)[:3], again.end_epoch(None)[:3]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("cuts", [[0, 4, 8], [0, 3, 8]])
def test_processes_equal_one(cuts: list[int], tmp_path: Path) -> None:
    multiprocessing.spawn(work, args=([slice(a, b) for a, b in itertools.pairwise(cuts)], str(tmp_path)), nprocs=2)
    one = PairHistory(9, torch.device("cpu"))
    part(one, slice(0, 8))
    sums, epoch = one.state()["sums"], one.end_epoch(None)[:3]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        torch.testing.assert_close(found[0], sums)
        for means in found[1:]:
            torch.testing.assert_close(means, epoch, equal_nan=True)


def test_the_gallery_shows_the_pairs_that_stand_out(tmp_path: Path) -> None:
    loss = ContrastiveLoss(
        InfoNCE(), 0.2, [HardNegativeMixing(hardest=4, pairs=3, queries=2, start_epoch=0)],
        BadPairMining(samples=SAMPLES, warmup_epochs=1, noisy=1.0, faulty=1.0),
    )  # fmt: skip
    steps, folder, data = Losses(), RunFolder(tmp_path), digits()
    fit(tmp_path, moco(loss), [steps, PairRecorder(folder)], data)
    *_, row = read_rows(folder.gallery)
    assert (row["step"], row["epoch"]) == (6, 1)
    losses = by_sample(steps, 1)["loss"]
    order = sorted(losses, key=lambda sample: losses[sample])
    assert [pair["index"] for pair in row["lowest"]] == order[:12]
    assert [pair["index"] for pair in row["highest"]] == order[:-13:-1]
    mining = loss.weighting
    assert mining is not None
    flagged = (mining.is_noisy | mining.is_faulty).nonzero().flatten().tolist()
    mean = sum(losses.values()) / len(losses)
    flagged.sort(key=lambda sample: -abs(losses[sample] - mean))
    assert [pair["index"] for pair in row["flagged"]] == flagged[:12]
    for pair in (*row["lowest"], *row["highest"], *row["flagged"]):
        assert pair["loss"] == pytest.approx(losses[pair["index"]], abs=1e-4)
        assert pair["label"] == int(data.train_labels[pair["index"]])
        assert pair["history"]["epoch"] == [0, 1]
        assert pair["history"]["loss"][1] == pytest.approx(pair["loss"], rel=2e-3, abs=1e-3)
        views = data.views_of(torch.tensor([pair["index"]]), 1).inputs
        for path, view in zip(pair["pictures"], views, strict=True):
            with Image.open(tmp_path / path) as picture:
                assert picture.size == (96, 96)
                grey = data.standardisation.undone(view)[0, 0].clamp(0, 1)
                assert picture.getpixel((6, 6))[0] == pytest.approx(255 * float(grey[0, 0]), abs=1)
                assert picture.getpixel((66, 30))[0] == pytest.approx(255 * float(grey[2, 5]), abs=1)
    pairs = steps.pairs[5][0]
    by_query = dict(zip(pairs.index.tolist(), queries_of(loss, pairs, data.train_labels), strict=True))
    assert len(row["queries"]) == 6
    for query in row["queries"]:
        expected = by_query[query["index"]]
        assert query["positive"] == pytest.approx(expected.positive, abs=1e-5)
        assert (tmp_path / query["picture"]).is_file()
        whole = sum(each.gradient for each in expected.negatives)
        assert len(query["negatives"]) == 8
        order = ranked(expected.negatives)
        mixes = [each for each in order if each.kind in ("pair_mix", "query_mix")]
        seen = [each for each in order if each not in mixes[2:]][:8]
        for shown, real in zip(query["negatives"], seen, strict=True):
            assert shown["score"] == pytest.approx(real.score, abs=1e-5)
            assert shown["kind"] == real.kind
            assert shown["share"] == pytest.approx(real.gradient / whole, abs=1e-5)
            assert (shown["picture"] is None) == (shown["index"] == -1)
            if shown["index"] >= 0:
                assert (shown["label"] == query["label"]) == (real.same == 1)
                assert (tmp_path / shown["picture"]).is_file()


def test_pairs_without_losses_are_ordered_by_their_positives(tmp_path: Path) -> None:
    class NoLosses(Distance):
        def forward(self, *pairs: Pairs) -> LossOutput:
            return dataclasses.replace(super().forward(*pairs), losses=None)

    steps, folder = Losses(), RunFolder(tmp_path)
    fit(tmp_path, simclr(NoLosses()), [steps, PairRecorder(folder)])
    *_, row = read_rows(folder.gallery)
    positive = by_sample(steps, 1)["positive"]
    order = sorted(positive, key=lambda sample: -positive[sample])
    assert [pair["index"] for pair in row["lowest"]] == order[:12]
    assert {pair["loss"] for pair in row["lowest"]} == {None}
    assert row["queries"] == []
    assert "flagged" not in row


def test_of_several_heads_the_first_ones_queries_are_shown(tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = SimCLR(ConvNet((4, 8), channels=1), lambda width: MultiHead(width, partial(LinearHead, output_width=6), 2))
    steps, folder = Losses(), RunFolder(tmp_path)
    fit(tmp_path, method, [steps, PairRecorder(folder)])
    *_, row = read_rows(folder.gallery)
    (pairs,) = steps.pairs[5]
    for query in row["queries"]:
        places = [i for i, sample in enumerate(pairs.index.tolist()) if sample == query["index"]]
        scores = [float(pairs.query[0, i] @ pairs.positive[0, i]) for i in places]
        assert any(query["positive"] == pytest.approx(score, abs=1e-5) for score in scores)


def test_series_are_drawn(tmp_path: Path) -> None:
    waves = torch.sin(torch.linspace(0, 6, 40) + torch.arange(24)[:, None])[:, None] * torch.ones(1, 2, 1)
    series = Items(*((each.numpy(), place % 2) for place, each in enumerate(waves)))
    data = SeriesData(series, SeriesViews(), batch_size=8, channels=2)
    torch.manual_seed(0)
    method = SimCLR(DilatedConvNet(width=8, hidden_width=4, depth=2, channels=2), partial(LinearHead, output_width=6))
    fit(tmp_path, method, [PairRecorder(RunFolder(tmp_path))], data)
    *_, row = read_rows(tmp_path / "gallery.jsonl")
    for path in (*row["highest"][0]["pictures"], row["queries"][0]["picture"]):
        with Image.open(tmp_path / path) as picture:
            assert picture.size == (144, 96)
            assert len(picture.getcolors(100_000)) > 30  # smooth lines on paper


def test_a_drawing_has_gaps_where_there_are_no_numbers() -> None:
    blank = drawn(torch.full((1, 20), math.nan))
    assert blank.convert("RGB").getcolors() == [(144 * 96, (255, 255, 255))]
    assert drawn(torch.full((2, 20), 3.0)).convert("RGB").getpixel((72, 48)) != (255, 255, 255)


def test_nothing_is_kept_where_nothing_was_asked_for(tmp_path: Path) -> None:
    fit(tmp_path, simclr(), [PairRecorder(RunFolder(tmp_path), epochs=0)])
    assert not (tmp_path / "pairs").exists()
    assert not (tmp_path / "gallery.jsonl").exists()
    fit(tmp_path, simclr(), [PairRecorder(RunFolder(tmp_path), gallery=0)])
    assert not (tmp_path / "gallery.jsonl").exists()


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"gallery": -2}])
def test_numbers_that_cannot_be_are_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be at least 0"):
        PairRecorder(RunFolder(tmp_path), **wrong)
