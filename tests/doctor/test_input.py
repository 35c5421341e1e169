"""Rules on the raw input: each fault of a data set is named, a sound data set has no finding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from contrast.commands.starting import look_at_input
from contrast.data import AeonSet, ArrayImages, ArraySeries, Digits, ImageData, SeriesData, SeriesViews, SimCLRViews
from contrast.doctor import examine
from contrast.doctor.data_rules import INPUT_RULES, input_findings
from contrast.run_folder import RunFolder
from tests.commands.running import pretrain

Array = npt.NDArray[Any]
ROOT = Path(__file__).parents[2]
RUNS = Path(__file__).parent / "runs"
random = np.random.default_rng(0)


def photographs(count: int = 128, channels: int = 3, side: int = 16) -> Array:
    """Smooth coloured noise: neighbours are alike, images differ, values cover the range."""
    coarse = random.random((count, 4, 4, channels)).repeat(side // 4, 1).repeat(side // 4, 2)
    fine = 0.15 * random.standard_normal((count, side, side, channels))
    return (np.clip(coarse + fine, 0, 1) * 255).astype(np.uint8)


def curves(count: int = 60, channels: int = 3, steps: int = 50) -> Array:
    phase = random.random((count, channels, 1)) * 6
    time = np.linspace(0, 9, steps) + phase
    return np.sin(time) + 0.05 * random.standard_normal((count, channels, steps))


def image_statistics(path: Path, train: Array, test: Array | None = None, channels: int = 3, **scale: Any) -> Any:
    sets = []
    for name, images in (("train", train), ("test", test)):
        if images is not None:
            np.savez(path / f"{name}.npz", images=images)
            sets.append(ArrayImages(path / f"{name}.npz", labels=None))
    views = SimCLRViews(size=16)
    data = ImageData(sets[0], views, *sets[1:], batch_size=2, workers=0, channels=channels, **scale)
    return json.loads(json.dumps(data.input_statistics()))


def series_statistics(path: Path, train: Array, test: Array | None = None, **scale: Any) -> Any:
    sets = []
    for name, series in (("train", train), ("test", test)):
        if series is not None:
            np.savez(path / f"{name}.npz", series=series)
            sets.append(ArraySeries(path / f"{name}.npz", labels=None))
    data = SeriesData(sets[0], SeriesViews(), *sets[1:], batch_size=2, channels=train.shape[1], **scale)
    return json.loads(json.dumps(data.input_statistics()))


def rules(statistics: Any) -> dict[str, str]:
    return {finding.rule: finding.severity for finding in input_findings(statistics)}


def one_constant(images: Array) -> Array:
    images[..., 1] = 77
    return images


def blank(images: Array) -> Array:
    images[: len(images) * 3 // 4] = np.arange(len(images) * 3 // 4, dtype=np.uint8)[:, None, None, None]
    return images


IMAGES: dict[str, tuple[Callable[[], Array], str, str]] = {
    "one picture 128 times": (lambda: photographs(1).repeat(128, 0), "input-copies", "problem"),
    "each picture four times": (lambda: photographs(32).repeat(4, 0), "input-copies", "problem"),
    "a tenth are copies": (lambda: photographs(116)[[*range(116), *range(12)]], "input-copies", "warning"),
    "all black": (lambda: photographs() * 0, "input-copies", "problem"),
    "constant pictures": (lambda: blank(photographs()), "input-constant", "problem"),
    "one channel constant": (lambda: one_constant(photographs()), "input-channel", "warning"),
    "floats cast to uint8": (lambda: (photographs() / 255).round().astype(np.uint8), "input-range", "problem"),
    "divided by 255 twice": (lambda: (photographs() / 255.0 / 255.0).astype(np.float32), "input-range", "problem"),
    "12 bits in uint16": (lambda: photographs().astype(np.uint16) * 16, "input-range", "problem"),
    "0 and 1 as integers": (lambda: (photographs() > 99).astype(np.int64), "input-range", "problem"),
    "height, width, sample": (lambda: photographs(400)[..., 0].transpose(1, 2, 0), "input-axes", "warning"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_nobody_looks_at_the_input(name: str, tmp_path: Path) -> None:
    made, rule, severity = IMAGES[name]
    found = rules(image_statistics(tmp_path, made()))
    assert found.get(rule) == severity, found


@pytest.mark.parametrize(
    ("mean", "std", "told"),
    [([0.5], [0.25], False), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False), ([125.0], [60.0], True)],
)
def test_a_mean_on_another_scale_is_told(mean: list[float], std: list[float], told: bool, tmp_path: Path) -> None:
    found = rules(image_statistics(tmp_path, photographs(), mean=mean, std=std))
    assert ("input-scale" in found) == told


def test_a_test_set_that_is_the_training_set_is_told(tmp_path: Path) -> None:
    images = photographs()
    assert rules(image_statistics(tmp_path, images, images)) == {"input-same-test-set": "problem"}
    other = images.copy()
    other[-1, -1, -1, 0] ^= 1
    assert rules(image_statistics(tmp_path, images, other)) == {}
    assert rules(image_statistics(tmp_path, images, images[:-1])) == {}


def test_a_test_set_of_another_range_is_told(tmp_path: Path) -> None:
    sound = image_statistics(tmp_path, photographs(), photographs())
    assert rules(sound) == {}
    for odd in ((photographs() // 8), (photographs() // 16 + 240)):
        assert rules(image_statistics(tmp_path, photographs(), odd)) == {"input-test-set": "problem"}
    assert "input-test-set" in rules(series_statistics(tmp_path, curves(), 100 * curves()))


def test_copies_are_named_and_not_the_temperature(tmp_path: Path) -> None:
    (cold,) = [name for name in ("temperature", "temperature-cold") if (RUNS / name).is_dir()][:1]
    shutil.copytree(RUNS / cold, tmp_path / "run")
    before = {finding.rule: finding.fix for finding in examine(RunFolder(tmp_path / "run")).findings}
    assert "temperature" in before["temperature"]
    statistics = image_statistics(tmp_path, photographs(1).repeat(128, 0))
    RunFolder(tmp_path / "run").input.write_text(json.dumps(statistics))
    found = examine(RunFolder(tmp_path / "run")).findings
    assert found[0].rule == "input-copies"
    assert found[0].seen == "Of 128 training images examined, 1 is distinct: the others are copies."
    assert found[0].severity == "problem"
    others = [finding.fix for finding in found[1:]]
    assert not any("raise the temperature" in fix.lower() or "lower the temperature" in fix.lower() for fix in others)


def test_a_run_says_what_is_wrong_with_its_input_when_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As reported: floats cast to uint8 trained, and nothing was said."""
    monkeypatch.chdir(ROOT)
    np.savez(tmp_path / "a.npz", images=(photographs(96, 1, 8) / 255).round().astype(np.uint8))
    train = f"{{class_path: ArrayImages, init_args: {{path: {tmp_path / 'a.npz'}, labels: null}}}}"
    words = ["--data.train", train, "--data.test", "null", "--online_knn.every_n_epochs", 0, "--trainer.max_steps", 1]
    folder = RunFolder(tmp_path / "run")
    assert pretrain(folder.path, *words) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("note    input-range: All pixels lie between 0 and 1 of 0 to 255")]
    assert json.loads(folder.input.read_text())["train"]["highest"] == [1 / 255]


def test_a_test_set_that_cannot_be_read_is_said_when_a_run_starts(tmp_path: Path) -> None:
    """Training does not need it, so the run goes on."""

    class Normalised(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return 9

        def __getitem__(self, place: int) -> torch.Tensor:
            return torch.full((1, 8, 8), -1.0)

    data = ImageData(Digits(train=True), SimCLRViews(size=8), Normalised(), batch_size=2, channels=1)
    (note,) = look_at_input(data, RunFolder(tmp_path))
    assert note.startswith("the test set was not examined: ")
    assert "a pixel of float32 is -1.0" in note
    assert json.loads((tmp_path / "input.json").read_text())["test"] == {"error": note.partition(": ")[2]}


def test_swapped_axes_of_series_are_told(tmp_path: Path) -> None:
    assert rules(series_statistics(tmp_path, curves())) == {}
    assert rules(series_statistics(tmp_path, curves().transpose(0, 2, 1))) == {"input-axes": "warning"}


def test_a_series_channel_that_never_changes_is_told(tmp_path: Path) -> None:
    series = curves()
    series[:, 2] = 4.0
    assert rules(series_statistics(tmp_path, series)) == {"input-channel": "warning"}


def test_time_stamps_that_float32_rounds_are_told(tmp_path: Path) -> None:
    days = 86400.0 * random.integers(0, 3000, (60, 1, 1))
    assert "input-precision" in rules(series_statistics(tmp_path, 1.7e9 + days + np.arange(50.0)[None, None]))


def test_sound_data_have_no_finding(tmp_path: Path) -> None:
    digits = ImageData(Digits(train=True), SimCLRViews(size=8), Digits(train=False), channels=1)
    assert rules(digits.input_statistics()) == {}
    for name, channels in (("JapaneseVowels_eq", 12), ("BasicMotions", 6)):
        train, test = AeonSet(name, "train"), AeonSet(name, "test")
        data = SeriesData(train, SeriesViews(), test, batch_size=2, channels=channels)
        assert rules(data.input_statistics()) == {}, name
    for sound in (photographs(), photographs(channels=1), (photographs() > 127).astype(np.uint8) * 255):
        assert rules(image_statistics(tmp_path, sound)) == {}
    assert rules(image_statistics(tmp_path, photographs() / 255.0)) == {}
    assert rules(image_statistics(tmp_path, photographs().astype(np.uint16) * 257)) == {}


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["mean", "std", "samples"]), inner),
    max_leaves=6,
)


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_no_content_of_the_file_makes_a_rule_fail(data: st.DataObject) -> None:
    names = [
        "samples",
        "of",
        "shape",
        "distinct",
        "constant",
        "mean",
        "std",
        "lowest",
        "highest",
        "within",
        "roughness",
    ]
    part = st.dictionaries(st.sampled_from(names), ODD) | ODD
    keys = ("train", "test", "standardisation", "samples_name")
    statistics = {key: data.draw(part) for key in keys}
    assert len(input_findings(statistics)) <= len(INPUT_RULES)
