"""The linear probe: scikit-learn's optimum, a choice that never meets test data, determinism."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from contrast.errors import InputError
from contrast.evaluation import Features, finetune, fit_linear, held_out_split, probe_over_seeds, train_probe
from contrast.evaluation.probe import FALLBACK, GRID


def _blobs(samples: int, classes: int, width: int, spread: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    labels = torch.arange(samples) % classes
    noise = spread * torch.randn(samples, width, generator=generator, dtype=torch.float64)
    return (centres[labels] + noise) * torch.logspace(-2, 2, width, dtype=torch.float64) + 5, labels


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-3])
def test_the_optimum_is_scikit_learns(strength):
    features, labels = _blobs(120, 4, 6, 1.0, 0)
    probe = fit_linear(features, labels, 4, strength, tolerance=1e-9)
    standardised = (features.numpy() - features.numpy().mean(0)) / features.numpy().std(0)
    reference = LogisticRegression(C=1 / (strength * 120), tol=1e-9, max_iter=10000)
    reference.fit(standardised, labels.numpy())
    # The logits of all classes may be shifted together: W is unique under the penalty, b up to a constant.
    np.testing.assert_allclose(probe.weight.numpy(), reference.coef_, rtol=0, atol=1e-5)
    centred = probe.bias.numpy() - probe.bias.numpy().mean()
    np.testing.assert_allclose(centred, reference.intercept_ - reference.intercept_.mean(), rtol=0, atol=1e-5)
    new, new_labels = _blobs(200, 4, 6, 1.0, 1)
    standardised = (new.numpy() - features.numpy().mean(0)) / features.numpy().std(0)
    assert probe.accuracy(new, new_labels) == reference.score(standardised, new_labels.numpy())


@pytest.mark.parametrize(("samples", "width"), [(40, 41), (40, 200)])
@pytest.mark.parametrize("strength", [1.0, 1e-2])
def test_the_optimum_of_fewer_samples_than_features_is_scikit_learns(samples, width, strength):
    features, labels = _blobs(samples, 4, width, 3.0, 0)
    features[1] = features[0]  # one direction less
    probe = fit_linear(features, labels, 4, strength, tolerance=1e-9)
    standardised = (features.numpy() - features.numpy().mean(0)) / features.numpy().std(0)
    reference = LogisticRegression(C=1 / (strength * samples), tol=1e-10, max_iter=10000)
    reference.fit(standardised, labels.numpy())
    np.testing.assert_allclose(probe.weight.numpy(), reference.coef_, rtol=0, atol=1e-5)
    started = fit_linear(features, labels, 4, strength, start=fit_linear(features + 1, labels, 4, 0.1), tolerance=1e-9)
    torch.testing.assert_close(started.weight, probe.weight, rtol=0, atol=1e-6)


def test_float32_comes_close_to_the_same_optimum():
    features, labels = _blobs(120, 4, 6, 1.0, 0)
    wide, narrow = fit_linear(features, labels, 4, 1e-2), fit_linear(features.float(), labels, 4, 1e-2)
    assert narrow.weight.dtype == torch.float32
    torch.testing.assert_close(narrow.weight.double(), wide.weight, rtol=0, atol=2e-3)


def test_the_optimum_does_not_depend_on_where_the_fit_starts():
    features, labels = _blobs(90, 3, 5, 1.0, 0)
    far = fit_linear(features, labels.roll(1), 3, 1e-5)
    started = fit_linear(features, labels, 3, 0.1, start=far, tolerance=1e-8)
    from_zero = fit_linear(features, labels, 3, 0.1, tolerance=1e-8)
    torch.testing.assert_close(started.weight, from_zero.weight, rtol=0, atol=1e-5)
    assert far.weight.abs().max() > 2 * started.weight.abs().max()


def test_a_constant_feature_changes_nothing():
    features, labels = _blobs(60, 3, 4, 1.0, 0)
    constant = torch.cat([features, torch.full((60, 1), 7.0, dtype=torch.float64)], dim=1)
    probe, reference = (fit_linear(rows, labels, 3, 0.1, tolerance=1e-8) for rows in (constant, features))
    torch.testing.assert_close(probe.weight[:, :4], reference.weight, rtol=0, atol=1e-6)
    assert torch.isfinite(probe.logits(constant + 1)).all()


def test_the_strength_is_the_best_on_the_held_out_fifth_and_the_refit_sees_all():
    features, labels = _blobs(80, 4, 8, 2.5, 2)
    probe = train_probe(features, labels, 4, seed=3)
    fit, held = held_out_split(labels, 3)
    accuracies = {
        strength: fit_linear(features[fit], labels[fit], 4, strength).accuracy(features[held], labels[held])
        for strength in GRID
    }
    best = max(accuracies.values())
    assert len(set(accuracies.values())) > 2  # there is something to choose
    assert probe.strength == max(strength for strength, accuracy in accuracies.items() if accuracy == best)
    assert probe.held_out_accuracy == best
    refit = fit_linear(features, labels, 4, probe.strength)
    torch.testing.assert_close(probe.weight, refit.weight, rtol=0, atol=0.05)
    torch.testing.assert_close(probe.mean, features.mean(0))


def test_what_is_chosen_depends_on_the_seed_and_on_nothing_drawn():
    features, labels = _blobs(80, 4, 8, 2.5, 2)
    torch.manual_seed(0)
    first = train_probe(features, labels, 4, seed=5)
    torch.manual_seed(1)
    again = train_probe(features, labels, 4, seed=5)
    assert torch.equal(first.weight, again.weight)
    assert len({train_probe(features, labels, 4, seed=seed).held_out_accuracy for seed in range(4)}) > 1


def test_garbage_test_labels_change_no_choice():
    features, labels = _blobs(120, 4, 8, 2.5, 2)
    test_features, test_labels = _blobs(200, 4, 8, 2.5, 3)
    index = torch.arange(200)
    train = Features(features, labels, index[:120])
    honest = probe_over_seeds(train, Features(test_features, test_labels, index), 4, range(3), fraction=0.5)
    garbage = Features(test_features.flip(0) * 100, (test_labels + 1) % 4, index)
    fooled = probe_over_seeds(train, garbage, 4, range(3), fraction=0.5)
    assert [result.chosen for result in honest] == [result.chosen for result in fooled]
    assert min(result.top1 for result in honest) > max(result.top1 for result in fooled)


def test_what_chooses_is_never_handed_test_data():
    for function in (train_probe, finetune):
        assert not any("test" in name for name in inspect.signature(function).parameters)


def test_seeds_see_their_own_labels():
    features, labels = _blobs(400, 4, 8, 2.5, 2)
    data = Features(features, labels, torch.arange(400))
    results = probe_over_seeds(data, data, 4, range(3), per_class=5)
    assert [result.train_samples for result in results] == [20, 20, 20]
    single = probe_over_seeds(data, data, 4, range(3), per_class=1)  # nothing held out: only the labels differ
    assert len({result.top1 for result in single}) == 3
    everything = probe_over_seeds(data, data, 4, range(2), fraction=1.0)
    assert everything[0].train_samples == 400


def test_one_label_a_class_leaves_nothing_to_choose_on_and_says_so():
    features, labels = _blobs(4, 4, 6, 0.1, 2)
    probe = train_probe(features, labels, 4, seed=0)
    assert (probe.strength, probe.held_out_accuracy) == (FALLBACK, None)
    assert probe.accuracy(features, labels) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": torch.tensor([0, 1, 5])}, "labels from 0 to 1"),
        ({"labels": torch.tensor([0, -1, 1])}, "labels from 0 to 1"),
        ({"strength": 0.0}, "strength of 0.0"),
        ({"features": torch.tensor([[1.0], [2.0], [float("nan")]])}, "NaN or infinity"),
    ],
)
def test_what_cannot_be_is_refused(changed, message):
    arguments = {"features": torch.ones(3, 1), "labels": torch.tensor([0, 1, 1]), "classes": 2, "strength": 0.1}
    with pytest.raises(InputError, match=message):
        fit_linear(**(arguments | changed))


@pytest.mark.gpu
def test_cuda_finds_the_same_optimum():
    features, labels = _blobs(200, 4, 20, 1.5, 0)
    there = train_probe(features.cuda(), labels.cuda(), 4, seed=0)
    here = train_probe(features, labels, 4, seed=0)
    assert there.strength == here.strength
    torch.testing.assert_close(there.weight.cpu(), here.weight, rtol=0, atol=1e-6)
