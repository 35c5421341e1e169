"""Public functions refuse tensors of another rank, type or length in one line; nothing broadcasts to another number."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from contrast import Pairs, in_batch_pairs, queue_pairs
from contrast.banks import FaissBank, KeyQueue
from contrast.banks.key_store import KeyStore
from contrast.checks import tensor_hints
from contrast.errors import InputError
from contrast.evaluation import (
    export,
    fit_linear,
    held_out_split,
    knn_top1,
    label_subset,
    macro_auroc,
    near_across,
    near_within,
    of_two_classes,
    train_probe,
    weighted_knn_scores,
    write_json,
)
from contrast.evaluation.features import Features, cached_features
from contrast.evaluation.probe import fit_grid
from contrast.losses import (
    DCL,
    DCLW,
    LOOK,
    BadPairMining,
    ContrastiveLoss,
    HardestNegative,
    SameClassRemoval,
    SupCon,
    bad_pair_weights,
    extrapolate,
    interpolate,
    mix_pairs,
    mix_with_query,
)
from contrast.losses.redundancy import amcl_barlow, cross_correlation
from contrast.models import ConvNet, load_weights
from contrast.pairs import cross_pairs
from contrast.run_folder import RunFolder

B, K, D, N = 4, 7, 3, 5
rows = torch.nn.functional.normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(0)), dim=-1)
keys = torch.nn.functional.normalize(torch.randn(K, D, generator=torch.Generator().manual_seed(1)), dim=-1)
index, key_index = torch.arange(B), torch.arange(10, 10 + K)
labels, key_labels = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 0, 1, 0, 1, 0])
places = torch.zeros(B, 2, dtype=torch.int64)
hard, shares = torch.ones(B, N, D), torch.full((B, 2), 0.5)
scalar = torch.tensor(1.0)
probe = fit_linear(keys, key_labels, 2, 0.1)


def pairs_of(**given: Tensor) -> Pairs:
    """Pairs past the check that tests put round a dataclass's constructor, whose errors are not ours."""
    made = object.__new__(Pairs)
    inspect.unwrap(Pairs.__init__)(made, **given)
    return made


CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "in_batch_pairs": (in_batch_pairs, {"z1": rows, "z2": rows, "index": index}),
    "queue_pairs": (
        queue_pairs,
        {"query": rows, "key": rows, "keys": keys, "index": index, "key_index": key_index,
         "placeholder": torch.zeros(K, dtype=torch.bool)},
    ),
    "cross_pairs": (cross_pairs, {"query": rows, "positive": rows, "index": index}),
    "Pairs": (
        pairs_of,
        {"query": rows, "positive": rows, "negatives": keys, "index": index, "negative_index": key_index,
         "view": torch.zeros(B, dtype=torch.int64), "placeholder": torch.zeros(K, dtype=torch.bool),
         "excluded": places, "own_negatives": torch.ones(B, 2, D), "own_negative_index": places,
         "own_negative_kind": torch.zeros(2, dtype=torch.int64), "extra_positives": torch.ones(B, 2, D),
         "extra_positive_index": places, "own_negative_parents": torch.zeros(B, 2, 2, dtype=torch.int64)},
    ),
    "mix_pairs": (mix_pairs, {"hard": hard, "i": places, "j": places, "a": shares}),
    "mix_with_query": (mix_with_query, {"query": rows, "hard": hard, "j": places, "b": shares}),
    "extrapolate": (extrapolate, {"query": rows, "key": rows, "step": scalar}),
    "interpolate": (interpolate, {"keys": keys, "permutation": torch.arange(K), "step": scalar}),
    "bad_pair_weights": (
        bad_pair_weights, {"losses": torch.ones(B), "history_mean": torch.ones(B), "mean": scalar, "deviation": scalar},
    ),
    "cross_correlation": (cross_correlation, {"z1": rows, "z2": rows}),
    "amcl_barlow": (
        amcl_barlow, {"correlation": torch.eye(D), "tau": torch.ones(D, D), "redundancy": 0.1, "beta": 0.1},
    ),
    "BadPairMining": (BadPairMining(samples=B), {"losses": torch.ones(B), "index": index}),
    "KeyQueue.negatives": (KeyQueue(D, 8).negatives, {"query": rows, "index": index}),
    "KeyQueue.store": (KeyQueue(D, 8).store, {"keys": rows, "index": index}),
    "FaissBank.negatives": (FaissBank(D, 8, warmup_steps=0).negatives, {"query": rows, "index": index}),
    "FaissBank.store": (FaissBank(D, 8).store, {"keys": rows, "index": index}),
    "KeyStore.write": (KeyStore(D, 8).write, {"keys": rows, "index": index, "step": 0}),
    "weighted_knn_scores": (
        weighted_knn_scores, {"query": rows, "keys": keys, "labels": key_labels, "classes": 2, "neighbours": 3},
    ),
    "knn_top1": (
        knn_top1,
        {"query": rows, "query_labels": labels, "keys": keys, "labels": key_labels, "classes": 2, "neighbours": 3},
    ),
    "macro_auroc": (macro_auroc, {"logits": keys, "labels": key_labels}),
    "near_within": (near_within, {"features": keys, "threshold": 0.9}),
    "near_across": (near_across, {"features": rows, "others": keys, "threshold": 0.9}),
    "of_two_classes": (
        of_two_classes, {"pairs": near_within(keys, -0.99), "first": key_labels, "second": key_labels},
    ),
    "label_subset": (label_subset, {"labels": key_labels, "seed": 0, "per_class": 1}),
    "held_out_split": (held_out_split, {"labels": key_labels, "seed": 0}),
    "train_probe": (train_probe, {"features": keys, "labels": key_labels, "classes": 2, "seed": 0}),
    "fit_linear": (fit_linear, {"features": keys, "labels": key_labels, "classes": 2, "strength": 0.1}),
    "fit_grid": (fit_grid, {"features": keys, "labels": key_labels, "classes": 2, "strengths": [0.1]}),
    "LinearProbe.accuracy": (probe.accuracy, {"features": keys, "labels": key_labels}),
    "LinearProbe.logits": (probe.logits, {"features": keys}),
}  # fmt: skip


def changes(value: Tensor) -> dict[str, Any]:
    """The same argument, each time wrong in one way."""
    found: dict[str, Any] = {
        "a column": value[..., None, None, None],
        "a list": value.tolist(),
        "numpy": value.numpy(),
        "an array of texts": "text",
    }
    if value.is_floating_point():
        found["integers"] = value.long()
    else:
        found["numbers"] = value.double()
    if value.dtype == torch.int64:
        found["true and false"] = value.bool()
    if value.ndim:
        found["a number"] = value.flatten()[0]
    if value.ndim == 1:
        found["(n, 1)"] = value[:, None]
        found["(1, n)"] = value[None]
    return found


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_in_every_wrong_shape_and_type(name: str) -> None:
    function, arguments = CALLS[name]
    function(**arguments)
    wrong = 0
    for argument, value in arguments.items():
        if not isinstance(value, Tensor):
            continue
        for kind, changed in changes(value).items():
            if argument == "step" and isinstance(changed, Tensor) and changed.is_floating_point():
                continue  # it may have any shape
            if argument == "negative_index" and kind == "(n, 1)":
                continue  # said by the check of lengths
            with pytest.raises(InputError) as raised:
                function(**arguments | {argument: changed})
            assert "\n" not in str(raised.value)
            assert argument in str(raised.value), kind
            wrong += 1
    assert wrong


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_of_another_length(name: str) -> None:
    """What is longer than its partner is refused, wherever an axis is shared by name."""
    function, arguments = CALLS[name]
    tensors = {argument: value for argument, value in arguments.items() if isinstance(value, Tensor)}
    shared = {"b", "n", "k", "d"} if len(tensors) > 1 else set()
    hints = tensor_hints(
        Pairs
        if function is pairs_of
        else function
        if not isinstance(function, torch.nn.Module)
        else type(function).forward
    )
    axes = {argument: [part.strip("*") for part in hints[argument][0].dim_str.split()] for argument in tensors}
    for argument, value in tensors.items():
        for axis, letter in enumerate(axes[argument]):
            others = sum(letter in of for other, of in axes.items() if other != argument)
            if letter not in shared or not others:
                continue
            axis -= len(axes[argument])
            longer = torch.cat([value, value.narrow(axis, 0, 1)], dim=axis)
            with pytest.raises(InputError) as raised:
                function(**arguments | {argument: longer})
            assert "\n" not in str(raised.value)


LABELLED = {"SupCon": SupCon, "LOOK": LOOK, "SameClassRemoval": SameClassRemoval}


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (torch.tensor([[0], [1], [0], [1]]), "labels is int64 of shape (4, 1), and must be integers of shape (n)"),
        (torch.tensor([[0, 1, 0, 1]]), "of shape (1, 4)"),
        (torch.tensor([0.0, 1.0]), "labels is float32 of shape (2,)"),
        (torch.eye(3), "labels is float32 of shape (3, 3)"),
        (torch.tensor([True, False]), "labels is bool"),
        ([0, 1, 0, 1], "labels is of type list"),
        (torch.tensor(3), "of shape ()"),
        (torch.zeros(0, dtype=torch.int64), "labels are empty"),
        (torch.tensor([0, -2]), "the label -2 is below -1"),
        (None, "learns from labels|labels"),
    ],
)
def test_labels_of_another_shape(name: str, wrong: Any, said: str) -> None:
    with pytest.raises(InputError) as raised:
        inspect.unwrap(LABELLED[name].__init__)(LABELLED[name].__new__(LABELLED[name]), labels=wrong)
    assert "\n" not in str(raised.value)
    assert any(each in str(raised.value) for each in said.split("|"))
    assert name in str(raised.value)


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.tensor([3, 3, 3, -1]), "all 3 labelled samples are of class 3"),
        (torch.tensor([3, 4, 5, -1]), "all 3 labels are different"),
        (torch.tensor([-1, -1, -1, -1]), "none of 4 samples has a label"),
    ],
)
def test_labels_that_say_nothing_are_said(
    name: str, given: Tensor, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        loss = LABELLED[name](labels=given)
    assert f"{name}: {said}" in caplog.text
    assert said in loss.describe()
    caplog.clear()
    assert "labels" not in LABELLED[name](labels=torch.tensor([0, 0, 1, 1])).describe().replace("SupCon", "")
    assert caplog.text == ""


@pytest.mark.parametrize("objective", [DCL, DCLW, HardestNegative])
@pytest.mark.parametrize("many", [1, 2])
def test_one_row_is_refused_where_its_loss_would_be_infinite(objective: Any, many: int) -> None:
    loss = ContrastiveLoss(objective())
    one = rows[:1].expand(many, D)
    same = torch.zeros(many, dtype=torch.int64)
    for pairs in (in_batch_pairs(one, one, same), queue_pairs(one, one, one, same, same)):
        with pytest.raises(InputError, match=rf"{objective.__name__}: query 0 has no negative.*give 2 samples or more"):
            loss(pairs)
    assert loss(in_batch_pairs(rows[:2], rows[:2], index[:2])).loss.isfinite()


def test_values_that_no_label_or_score_has() -> None:
    good = CALLS["knn_top1"][1]
    for wrong in (torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, -1, 0])):
        with pytest.raises(InputError, match=r"labels of queries from .* are not among 2 classes"):
            knn_top1(**good | {"query_labels": wrong})
    for wrong in (torch.full((K,), 9), torch.full((K,), -1)):
        with pytest.raises(InputError, match="not among"):
            knn_top1(**good | {"labels": wrong})
        with pytest.raises(InputError, match="not among"):
            macro_auroc(keys, wrong)
    for name, argument in (("near_within", "features"), ("near_across", "others"), ("knn_top1", "query"),
                           ("macro_auroc", "logits"), ("train_probe", "features")):  # fmt: skip
        function, arguments = CALLS[name]
        with pytest.raises(InputError, match=r"finite|NaN"):
            function(**arguments | {argument: torch.full_like(arguments[argument], torch.nan)})
    for share in (0.0, 1.0, -0.5, float("nan")):
        with pytest.raises(InputError, match="held-out share"):
            held_out_split(key_labels, 0, share)


@pytest.mark.parametrize("as_given", [str, Path])
def test_a_path_may_be_text(as_given: Callable[[Path], Any], tmp_path: Path) -> None:
    net = ConvNet((2,), channels=1, image_size=8)
    written = export(net, {}, as_given(tmp_path / "export"))
    load_weights(ConvNet((2,), channels=1, image_size=8), as_given(written))
    assert write_json(as_given(tmp_path / "a.json"), {"a": 1}).is_file()
    features = Features(rows, labels, index)
    cached_features(as_given(tmp_path), "key", lambda: features)
    assert torch.equal(cached_features(as_given(tmp_path), "key", lambda: features).features, rows)
    folder = object.__new__(RunFolder)
    inspect.unwrap(RunFolder.__init__)(folder, as_given(tmp_path))  # past the check of types in tests
    assert folder.config == tmp_path / "config.yaml"
