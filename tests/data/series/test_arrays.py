"""Series from `.npz` and `.npy`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from contrast.data.series import ArraySeries
from contrast.errors import InputError
from tests.data.series.files import sines

SERIES, LABELS = sines(5, 3, 8)


def save(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


def test_series_and_labels_of_an_npz(tmp_path: Path):
    arrays = ArraySeries(save(tmp_path / "a.npz", x=SERIES, y=LABELS), series="x", labels="y")
    assert len(arrays) == 5
    assert arrays.labels is not None
    assert arrays.labels.tolist() == LABELS.tolist()
    series, label = arrays[3]
    assert torch.equal(series, torch.from_numpy(SERIES[3].astype(np.float32)))
    assert label == 1


def test_one_channel_and_no_labels(tmp_path: Path):
    np.save(tmp_path / "a.npy", SERIES[:, 0])
    for arrays in (
        ArraySeries(tmp_path / "a.npy"),
        ArraySeries(save(tmp_path / "a.npz", series=SERIES[:, :1]), labels=None),
    ):
        assert arrays.labels is None
        assert arrays[2][0].shape == (1, 8)
        assert arrays[2][1] is None


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"series": SERIES}, ["no array 'labels'", "labels: null"]),
        ({"serie": SERIES, "labels": LABELS}, ["no array 'series'", "did you mean 'serie'"]),
        ({"series": SERIES, "labels": LABELS[:3]}, ["3 labels for 5 samples"]),
        ({"series": SERIES, "labels": LABELS * 0.5}, ["float64"]),
        ({"series": SERIES[0, 0], "labels": LABELS}, ["series of shape (8,)"]),
        ({"series": SERIES[:0], "labels": LABELS[:0]}, ["series of shape (0, 3, 8)"]),
        ({"series": SERIES.astype(str), "labels": LABELS}, ["series 0", "type <U"]),
    ],
)
def test_what_does_not_fit_is_named(arrays: dict[str, object], words: list[str], tmp_path: Path):
    path = save(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError) as refused:
        ArraySeries(path)
    for word in [str(path), *words]:
        assert word in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_value_is_named_by_sample_and_channel(tmp_path: Path):
    series = SERIES.copy()
    series[4, 2, 6] = np.nan
    with pytest.raises(InputError, match=r"a\.npz', series 4: channel 2 is nan at step 6"):
        ArraySeries(save(tmp_path / "a.npz", series=series, labels=LABELS))


def test_files_that_are_none(tmp_path: Path):
    with pytest.raises(InputError, match="put the series there"):
        ArraySeries(tmp_path / "none.npz")
    (tmp_path / "a.npz").write_bytes(b"PK broken")
    with pytest.raises(InputError, match=r"not a complete \.npz"):
        ArraySeries(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"numpy\.savez"):
        ArraySeries(tmp_path / "a.csv")
    np.savez(tmp_path / "o.npz", series=np.array([None, 1]), labels=LABELS)
    with pytest.raises(InputError, match=r"pickled objects, and pickles are never loaded.*padded with NaN"):
        ArraySeries(tmp_path / "o.npz")


def test_series_of_unequal_length_are_padded_with_nan(tmp_path: Path):
    padded = SERIES.astype(float)
    padded[1, :, 5:] = np.nan
    padded[2, :, 7] = np.nan
    file = ArraySeries(save(tmp_path / "a.npz", series=padded, labels=LABELS))
    assert [file[place][0].shape[1] for place in range(5)] == [8, 5, 7, 8, 8]
    for bad, words in ((np.where(np.arange(8) == 3, np.nan, SERIES), "nan at step 3"), (SERIES * np.nan, "only NaN")):
        with pytest.raises(InputError, match=f"series 0.*{words}"):
            ArraySeries(save(tmp_path / "b.npz", series=bad, labels=LABELS))


def test_classes_of_series_have_names(tmp_path: Path):
    file = ArraySeries(save(tmp_path / "a.npz", series=SERIES, labels=np.array(["run", "walk", "run", "run", "sit"])))
    assert file.labels is not None
    assert (file.labels.tolist(), file.classes) == ([0, 2, 0, 0, 1], ["run", "sit", "walk"])
