"""The online accuracy against one taken by hand, and that taking it leaves no trace in the training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor

from contrast.callbacks import OnlineKNN
from contrast.data import Digits, ImageData, SimCLRViews
from contrast.errors import InputError
from contrast.methods import ContrastiveMethod
from contrast.records import read_rows
from contrast.run_folder import RunFolder
from tests.callbacks.fitting import BATCH, SAMPLES, digits, fit, moco, simclr


def by_hand(method: ContrastiveMethod, data: ImageData, neighbours: int, temperature: float) -> float:
    """Top-1 of weighted kNN, query by query and neighbour by neighbour."""
    assert data.test_set is not None
    method.eval()

    def features(images: Any) -> tuple[list[Tensor], list[int]]:
        rows, labels = [], []
        for image, _, label in images:
            pixel = (image[None].float() / 255 - 0.5) / 0.25
            with torch.no_grad():
                row = method.backbone(pixel)[0].double()
            rows.append(row / row.norm())
            labels.append(label)
        return rows, labels

    keys, classes = features([data.train_set[place] for place in range(SAMPLES)])
    queries, truth = features([data.test_set[place] for place in range(len(data.test_set))])
    right = 0
    for query, true in zip(queries, truth, strict=True):
        scores = [float(query @ key) for key in keys]
        nearest = sorted(range(len(keys)), key=lambda place: -scores[place])[:neighbours]
        votes = dict.fromkeys(range(10), 0.0)
        for place in nearest:
            votes[classes[place]] += float(torch.tensor(scores[place] / temperature).exp())
        right += max(votes, key=lambda name: votes[name]) == true
    method.train()
    return right / len(truth)


def accuracies(folder: RunFolder) -> list[tuple[int, int, float]]:
    return [(row["step"], row["epoch"], row["online/knn_top1"]) for row in read_rows(folder.metrics)]


@pytest.mark.parametrize("make", [simclr, moco])
def test_it_is_knn_on_standardised_images_of_the_backbone_as_it_is(
    make: Callable[[], ContrastiveMethod], tmp_path: Path
) -> None:
    folder, method, data = RunFolder(tmp_path), make(), digits()
    fit(tmp_path, method, [OnlineKNN(folder, 2, neighbours=40, temperature=5.0)], data)
    (*start, before), (step, epoch, accuracy) = accuracies(folder)
    assert (start, step, epoch) == ([0, 0], 6, 1)
    assert before == pytest.approx(by_hand(make(), data, 40, 5.0), abs=1.5 / 360)  # one tie may fall either way
    assert accuracy == pytest.approx(by_hand(method, data, 40, 5.0), abs=1.5 / 360)
    assert 0.2 < accuracy < 1


def test_raw_input_and_the_majority_class_are_measured_once_before_the_first_step(tmp_path: Path) -> None:
    """Against loops over pixels and labels."""

    class Pixels(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = torch.nn.Flatten()

    folder, data = RunFolder(tmp_path), digits()
    fit(tmp_path, simclr(), [OnlineKNN(folder, 1, neighbours=40, temperature=5.0)], data)
    first, *later = [row for row in read_rows(folder.metrics) if "online/knn_top1" in row]
    by_pixels = by_hand(Pixels(), data, 40, 5.0)  # type: ignore[arg-type]
    assert first["step"] == 0
    assert first["online/raw_input_knn_top1"] == pytest.approx(by_pixels, abs=1.5 / 360)
    counts = [0] * 10
    for place in range(SAMPLES):
        counts[data.train_set[place][2]] += 1
    answer = counts.index(max(counts))
    assert data.test_set is not None
    tested = [data.test_set[place][2] for place in range(len(data.test_set))]
    assert first["online/majority_class"] == pytest.approx(tested.count(answer) / len(tested))
    assert all("online/raw_input_knn_top1" not in row for row in later)


@pytest.mark.parametrize(("every", "epochs"), [(0, []), (1, [0, 1, 2]), (2, [1, 2]), (3, [2]), (10, [2])])
def test_it_is_taken_every_few_epochs_and_after_the_last(every: int, epochs: list[int], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    fit(tmp_path, simclr(), [OnlineKNN(folder, every)], max_epochs=3, limit_train_batches=1)
    assert [epoch for step, epoch, _ in accuracies(folder) if step] == epochs
    assert [step for step, *_ in accuracies(folder)][:1] == [0][: len(epochs)]


def test_a_resumed_run_does_not_take_its_weights_for_random_ones(tmp_path: Path) -> None:
    trainer = fit(tmp_path, simclr(), [], max_epochs=1)
    trainer.save_checkpoint(tmp_path / "kept.ckpt", weights_only=False)
    fit(tmp_path, simclr(), [OnlineKNN(RunFolder(tmp_path), 1)], resume=tmp_path / "kept.ckpt")
    assert [step for step, *_ in accuracies(RunFolder(tmp_path))] == [6]


@pytest.mark.parametrize("make", [simclr, moco])
def test_training_goes_on_as_if_it_had_not_been_taken(make: Callable[[], ContrastiveMethod], tmp_path: Path) -> None:
    """Weights, batch norm's statistics, queue and random numbers: all bit by bit, though taken twice on the way."""
    modes: list[bool] = []

    class Modes(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            modes.extend(module.training for module in pl_module.modules())

    states = []
    for every in (0, 1):
        method = make()
        fit(tmp_path, method, [OnlineKNN(RunFolder(tmp_path), every), Modes()], max_epochs=3)
        states.append(method.state_dict())
    assert len(accuracies(RunFolder(tmp_path))) == 4
    assert any("running_mean" in name for name in states[0])
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert all(modes)


def test_batch_norm_counts_training_batches_alone(tmp_path: Path) -> None:
    method = simclr()
    fit(tmp_path, method, [OnlineKNN(RunFolder(tmp_path), 1)])
    counts = {int(value) for name, value in method.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {12}  # two views of six batches


def test_a_module_that_was_not_training_is_left_so(tmp_path: Path) -> None:
    method = simclr()
    frozen = next(module for module in method.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d))

    class Freeze(lightning.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            frozen.eval()

    fit(tmp_path, method, [Freeze(), OnlineKNN(RunFolder(tmp_path), 1)])
    assert not frozen.training
    assert method.backbone.training


class Unlabelled(torch.utils.data.Dataset[Tensor]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Tensor:
        return Digits()[index][0]


class PartlyLabelled(Digits):
    def __init__(self) -> None:
        super().__init__()
        self.labels[::2] = -1


@pytest.mark.parametrize(("train", "test"), [(Digits, None), (Unlabelled, Digits), (PartlyLabelled, Digits)])
def test_it_is_silent_where_there_is_nothing_to_compare_with(train: Any, test: Any, tmp_path: Path) -> None:
    held_out = None if test is None else test(train=False)
    data = ImageData(train(), SimCLRViews(size=8, blur=0.0), held_out, BATCH, workers=0, channels=1)
    fit(tmp_path, simclr(), [OnlineKNN(RunFolder(tmp_path), 1)], data, limit_train_batches=1, max_epochs=1)
    assert not RunFolder(tmp_path).metrics.exists()


def test_no_more_samples_than_the_limit_are_looked_at(tmp_path: Path) -> None:
    folder, method, seen = RunFolder(tmp_path), simclr(), []

    def look(module: Any, inputs: Any, output: Tensor) -> None:
        seen.append(0 if module.training else len(output))
        assert module.training or not output.requires_grad

    method.backbone.register_forward_hook(look)
    # Fewer samples than neighbours: all of them are.
    fit(tmp_path, method, [OnlineKNN(folder, 1, neighbours=500, limit=40)], max_epochs=1)
    assert sum(seen) == 2 * (40 + 40)
    assert len(accuracies(folder)) == 2


@pytest.mark.parametrize("arguments", [{"every_n_epochs": -1}, {"neighbours": 0}, {"limit": 0}])
def test_arguments_out_of_range_are_refused(arguments: dict[str, int], tmp_path: Path) -> None:
    ((name, value),) = arguments.items()
    with pytest.raises(InputError, match=f"{name} {value}"):
        OnlineKNN(RunFolder(tmp_path), **arguments)
