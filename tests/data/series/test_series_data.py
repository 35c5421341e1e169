"""Series as a run's data: one length, the training set's mean and deviation, views of standardised series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from contrast.data import Batch
from contrast.data.series import ArraySeries, IndexedSeries, SeriesData, SeriesViews, TsFile
from contrast.errors import InputError
from tests.data.series.files import sines, write_sines, write_ts

PLAIN = SeriesViews(0.0, (1, 1), 0.0)


class Items(Dataset[Any]):
    """A user's class: whatever list it is given."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def of_lengths(*lengths: int, channels: int = 2) -> Items:
    return Items(
        *((np.arange(channels * length).reshape(channels, length), place) for place, length in enumerate(lengths))
    )


def data(tmp_path: Path, **arguments: Any) -> SeriesData:
    train = ArraySeries(write_sines(tmp_path / "train.npz"))
    test = ArraySeries(write_sines(tmp_path / "test.npz", seed=1))
    return SeriesData(train, PLAIN, test, **{"batch_size": 16, "channels": 2} | arguments)


def test_the_standardisation_is_that_of_the_training_set(tmp_path: Path):
    made = data(tmp_path, limit=40)
    rows = torch.stack([made.train_set[place][0] for place in range(40)]).double().numpy()
    assert made.standardisation.mean == pytest.approx(rows.mean(axis=(0, 2)), abs=1e-12)
    assert made.standardisation.std == pytest.approx(rows.std(axis=(0, 2)), abs=1e-12)


def test_a_mean_far_from_zero_costs_no_digits():
    values = np.random.default_rng(0).standard_normal((30, 1, 50)).astype(np.float32)
    far = SeriesData(Items(*(values + np.float32(10_000))), PLAIN, batch_size=2)
    assert far.standardisation.std[0] == pytest.approx((values + np.float32(10_000)).astype(float).std(), rel=1e-9)


def test_a_channel_that_never_changes_is_divided_by_one():
    same = SeriesData(Items(*np.full((4, 1, 5), 3.0)), PLAIN, batch_size=2)
    assert (same.standardisation.mean, same.standardisation.std) == ((3.0,), (1.0,))


def test_given_numbers_are_taken(tmp_path: Path):
    assert data(tmp_path, mean=[1.0], std=[2.0, 3.0]).standardisation.std == (2.0, 3.0)
    assert data(tmp_path, mean=[1.0], std=[2.0, 3.0]).standardisation.mean == (1.0, 1.0)


def test_views_are_of_standardised_series(tmp_path: Path):
    made = data(tmp_path, mean=[1.0, 2.0], std=[2.0, 4.0])
    raw = torch.randn(3, 2, 20)
    first, second = made.make_views(Batch(raw, torch.arange(3)), epoch=0).inputs
    expected = (raw - torch.tensor([1.0, 2.0])[:, None]) / torch.tensor([2.0, 4.0])[:, None]
    torch.testing.assert_close(first, expected)
    torch.testing.assert_close(second, expected)


def test_batches_hold_series_and_indices_and_evaluations_labels(tmp_path: Path):
    made = data(tmp_path)
    batch = next(iter(made.train_dataloader()))
    assert batch._fields == ("inputs", "index")
    whole = sines(64, 2, 20)[0].astype(np.float32)
    assert np.array_equal(batch.inputs.numpy(), whole[batch.index.numpy()])
    test = next(iter(made.evaluation_loader("test")))
    assert np.array_equal(test.inputs.numpy(), sines(64, 2, 20, seed=1)[0].astype(np.float32))
    assert test.label.tolist() == [0, 1] * 32


def test_series_of_unequal_lengths_are_refused_or_resampled(tmp_path: Path):
    file = TsFile(write_ts(tmp_path / "a.ts"))
    with pytest.raises(InputError, match="series 1 of TsFile: it has 2 steps and series 0 of the training set 3: set"):
        SeriesData(file, PLAIN, batch_size=2, channels=2).setup("fit")
    made = SeriesData(file, PLAIN, batch_size=2, channels=2, length=5)
    made.setup("fit")
    assert made.input_shape == (2, 5)
    assert made.train_set[2][0].tolist() == [[7.0, 7.75, 8.5, 9.25, 10.0], [11.0, 11.75, 12.5, 13.25, 14.0]]
    assert "resampled on straight lines to 5 steps" in made.describe("train")["transform"]


def test_a_test_set_of_another_length_is_refused(tmp_path: Path):
    made = SeriesData(of_lengths(6, 6), PLAIN, of_lengths(5, 5), batch_size=2, channels=2)
    with pytest.raises(InputError, match="it has 5 steps and series 0 of the training set 6"):
        next(iter(made.evaluation_loader("test")))
    longer = SeriesData(of_lengths(6, 6), PLAIN, of_lengths(5, 5), batch_size=2, channels=2, length=6)
    assert next(iter(longer.evaluation_loader("test"))).inputs.shape == (2, 2, 6)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [np.zeros((3, 4)), np.zeros((3, 4))],
            "series 0 of Items: it has 3 channels and 4 steps, read as (channel, step), and data.channels is 2: set "
            "it to 3",
        ),
        ([np.zeros((2, 4)), "x"], "series 1 of Items: a series of type str"),
        ([np.zeros((2, 4)), np.full((2, 4), np.nan)], "series 1 of Items: channel 0 is nan at step 0"),
        ([np.zeros((2, 4)), (np.zeros((2, 4)), "cat")], "series 1 of Items: the label 'cat' is not an integer"),
        ([], "Items holds no series"),
    ],
)
def test_what_does_not_fit_is_named_before_a_step_is_taken(items: list[Any], message: str):
    with pytest.raises(InputError) as refused:
        SeriesData(Items(*items), PLAIN, batch_size=2, channels=2).setup("fit")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mean": [0.0]}, "data.mean and data.std go together"),
        ({"mean": [0.0, 0.0, 0.0], "std": [1.0]}, "data.mean has 3 numbers for 2 channels"),
        ({"mean": [0.0], "std": [0.0]}, "data.std (0.0, 0.0) divides the data"),
        ({"length": 0}, "data.length 0"),
        ({"batch_size": 1}, "batch_size 1"),
        ({"limit": 65}, "data.limit 65"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(InputError) as refused:
        data(tmp_path, **arguments)
    assert message in str(refused.value)


def test_the_card_of_the_input(tmp_path: Path):
    card = data(tmp_path, mean=[0.5], std=[2.0]).describe_input()
    assert (card["length"], card["channels"], card["mean"], card["std"]) == (20, 2, [0.5, 0.5], [2.0, 2.0])


def test_a_subset_keeps_length_and_is_numbered_anew():
    some = IndexedSeries(of_lengths(3, 4, 5), 2, 6, resampled=True).subset(torch.tensor([2, 0]))
    assert [(series.shape[1], index, label) for series, index, label in (some[0], some[1])] == [(6, 0, 2), (6, 1, 0)]
    with pytest.raises(IndexError):
        some[2]


@pytest.mark.parametrize("offset", [48.858123, 1e6 + 0.123, -1e9, 1.7e9])
@pytest.mark.parametrize("step", [1e-6, 1e-3])
def test_a_series_with_a_large_offset_keeps_its_values(offset: float, step: float, tmp_path: Path):
    if step < 1e-15 * abs(offset) * 1e2:
        pytest.skip("float64 itself does not hold such steps")
    series = offset + step * (np.arange(50) + np.arange(8)[:, None])[:, None]
    np.savez(tmp_path / "a.npz", series=series, labels=np.arange(8) % 2)
    sets = (ArraySeries(tmp_path / "a.npz"), ArraySeries(tmp_path / "a.npz"))
    made = SeriesData(sets[0], PLAIN, sets[1], batch_size=2, channels=1, limit=8)
    for samples in (made.train_set, made.test_set):
        assert samples is not None
        batch = torch.stack([samples[place][0] for place in range(8)])
        assert batch.dtype == torch.float32
        standard = made.standardisation(batch)
        assert [len(each.unique()) for each in standard] == [50] * 8
        wanted = (series - series.mean()) / series.std()
        assert torch.allclose(standard.double(), torch.from_numpy(wanted), atol=1e-2)
    again = SeriesData(sets[0], PLAIN, batch_size=2, channels=1, **made.measured())
    assert again.standardisation == made.standardisation
    rounds = np.abs(series.astype(np.float32) - series).max() > 1e-3 * series[0].std()
    assert ("in float64" in made.describe_input()["values"]) == rounds


def test_series_without_a_large_offset_are_bit_for_bit_as_they_were():
    items = [np.random.default_rng(place).standard_normal((2, 9)) + 5 for place in range(4)]
    made = SeriesData(Items(*items), PLAIN, batch_size=2, channels=2)
    for place in range(4):
        assert torch.equal(made.train_set[place][0], torch.from_numpy(items[place].astype(np.float32)))


def test_series_as_sample_step_channel_get_advice_that_names_the_axes():
    advice = r"50 channels and 3 steps, read as \(channel, step\).*transpose the series if it is \(step"
    with pytest.raises(InputError, match=advice):
        SeriesData(Items(*[np.zeros((50, 3))] * 4), PLAIN, batch_size=2, channels=3).setup("fit")
