"""Extraction in the data set's order, and a cache that trusts nothing it did not write under this key."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset

from contrast.data import Digits, ImageData, SimCLRViews, Standardisation
from contrast.data.batch import LabelledBatch
from contrast.errors import InputError
from contrast.evaluation import Encoder, Features, cache_key, cached_features, encode, extract, features_of, fingerprint

DATA = {"class_path": "contrast.data.Digits", "split": "train", "samples": 7, "transform": {"size": 2}}


def _encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    return Encoder(net, 3, (1, 2, 2), Standardisation((0.5,), (0.5,)), fingerprint(net), {"checkpoint": "last.ckpt"})


def _loader(samples: int = 7) -> DataLoader:
    images = torch.randint(0, 256, (samples, 1, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    rows = [LabelledBatch(images[i], torch.tensor(100 + i), torch.tensor(i % 3)) for i in range(samples)]
    return DataLoader(rows, batch_size=3)


def test_extraction_keeps_the_order_and_the_last_partial_batch():
    loader = _loader()
    found = extract(_encoder(), loader, torch.device("cpu"))
    assert found.index.tolist() == list(range(100, 107))
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    images = torch.stack([row.inputs for row in loader.dataset])
    torch.testing.assert_close(found.features, encode(_encoder(), images))


def test_an_empty_data_set_is_refused():
    with pytest.raises(InputError, match="empty"):
        extract(_encoder(), DataLoader([]), torch.device("cpu"))


def test_a_sample_without_a_label_is_refused():
    rows = [
        LabelledBatch(torch.zeros(1, 2, 2, dtype=torch.uint8), torch.tensor(i), torch.tensor(1 - i)) for i in range(3)
    ]
    with pytest.raises(InputError, match="sample 2 has no label"):
        extract(_encoder(), DataLoader(rows, batch_size=3), torch.device("cpu"))


def test_kept_features_of_samples_without_labels_serve_no_evaluation_that_needs_them(tmp_path, monkeypatch):
    rows = [LabelledBatch(torch.zeros(1, 2, 2, dtype=torch.uint8), torch.tensor(i), torch.tensor(-1)) for i in range(3)]
    data = ImageData(Digits(), SimCLRViews(size=8, blur=0.0), channels=1)
    monkeypatch.setattr(data, "evaluation_loader", lambda split, only=None: DataLoader(rows, batch_size=3))
    kept = features_of(_encoder(), data, "train", tmp_path, torch.device("cpu"), labelled=False)
    assert kept.labels.tolist() == [-1] * 3
    with pytest.raises(InputError, match="sample 0 has no label"):
        features_of(_encoder(), data, "train", tmp_path, torch.device("cpu"))


def test_what_a_worker_refuses_is_one_line():
    class Damaged(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int):
            raise InputError("a.png is empty")

    with pytest.raises(InputError, match=r"\Aa\.png is empty\Z"):
        extract(_encoder(), DataLoader(Damaged(), num_workers=1), torch.device("cpu"))


def test_progress_goes_to_stderr_alone(capsys):
    extract(_encoder(), _loader(), torch.device("cpu"), progress="features of train")
    printed = capsys.readouterr()
    assert "features of train" in printed.err
    assert printed.out == ""


def test_the_key_changes_with_each_ingredient():
    encoder = _encoder()
    keys = [cache_key(encoder, DATA), cache_key(_encoder(seed=1), DATA)]
    scales = [Standardisation((0.4,), (0.5,)), Standardisation((0.5,), (0.6,))]
    changed = [("input_shape", (1, 3, 3)), ("input_shape", (1, 4)), ("fingerprint", "0")]
    for name, value in [*changed, *(("standardisation", scale) for scale in scales)]:
        keys.append(cache_key(dataclasses.replace(encoder, **{name: value}), DATA))
    for name, value in {"class_path": "x", "split": "test", "samples": 8, "transform": {"size": 3}}.items():
        keys.append(cache_key(encoder, DATA | {name: value}))
    assert len(set(keys)) == len(keys) == 11
    described = dataclasses.replace(encoder, description={"checkpoint": "moved.ckpt"})
    assert cache_key(described, DATA) == keys[0]  # weights count, not where they lie


def _features(value: float = 1.0) -> Features:
    return Features(torch.full((2, 3), value), torch.tensor([0, 1]), torch.tensor([5, 6]))


def _never() -> Features:
    raise AssertionError("computed again")


def test_features_are_computed_once(tmp_path):
    folder = tmp_path / "features"
    cached_features(folder, "a" * 64, _features)
    again = cached_features(folder, "a" * 64, _never)
    assert torch.equal(again.features, _features().features)
    assert again.index.tolist() == [5, 6]
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]  # no staging file is left
    other = cached_features(folder, "b" * 64, lambda: _features(2.0))
    assert other.features[0, 0] == 2


@pytest.mark.parametrize("damage", ["cut", "empty", "pickle", "another key", "other tensors", "lengths"])
def test_a_file_that_is_not_ours_is_computed_again(tmp_path, caplog, damage):
    key = "a" * 64
    cached_features(tmp_path, key, _features)
    (path,) = tmp_path.iterdir()
    row = torch.tensor([0, 1])
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "pickle":
        torch.save({"features": torch.ones(2, 3)}, path)
    elif damage == "another key":  # the first half of the key is the file's name
        found = _features(9.0)
        tensors = {"features": found.features, "labels": found.labels, "index": found.index}
        save_file(tensors, path, metadata={"key": key[:32] + "b" * 32})
    elif damage == "other tensors":
        save_file({"features": torch.ones(2, 3)}, path, metadata={"key": key})
    else:
        save_file({"features": torch.ones(3, 3), "labels": row, "index": row + 5}, path, metadata={"key": key})
    with caplog.at_level(logging.WARNING):
        again = cached_features(tmp_path, key, lambda: _features(4.0))
    assert again.features[0, 0] == 4
    assert len(caplog.records) == 1
    assert cached_features(tmp_path, key, _never).features[0, 0] == 4


def test_a_computation_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(AssertionError):
        cached_features(tmp_path, "a" * 64, _never)
    assert list(tmp_path.iterdir()) == []
