"""What YAML 1.1 makes of a word, what a short name means, and several mistakes at once: said as they were written."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contrast.commands.building import build, resolve, run_parser
from contrast.commands.class_names import SLOTS, choices, own_classes
from contrast.commands.completing import complete
from contrast.commands.configuration import compose
from contrast.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def parser() -> Any:
    return run_parser()


def typed(parser: Any, *flags: tuple[str, str]) -> Any:
    composed = compose([ROOT / "configs" / "demo.yaml"], flags)
    return resolve(parser, complete(composed.config))


def refusal(parser: Any, *flags: tuple[str, str]) -> str:
    with pytest.raises(InputError) as raised:
        typed(parser, *flags)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("model.loss", "None", "model.loss: 'None' is text to YAML: write null for no value"),
        ("data.test", "none", "data.test: 'none' is text to YAML: write null for no value"),
        ("model.optimizer", "None", "model.optimizer: 'None' is text to YAML: write null for no value"),
        ("model.loss.weighting", "None", "model.loss.weighting: 'None' is text to YAML: write null for no value"),
        ("data.train", "None", "data.train: no class 'None', and a class is required here; known: AeonSet"),
        ("model", "None", "model: no class 'None', and a class is required here; known: BYOL"),
        ("trainer.max_time", "0", "trainer.max_time: 0 does not fit: give days, hours, minutes and seconds, as in 00:"),
        ("trainer.max_time", "10", "trainer.max_time: 10 does not fit: give days, hours, minutes and seconds, as in"),
        ("trainer.precision", "banana", "trainer.precision: 'banana' does not fit: give 32-true, 16-mixed or bf16-"),
        ("trainer.limit_train_batches", "x", "trainer.limit_train_batches: 'x' is not a number"),
        ("seed_everything", "2024-01-01", "--seed_everything: YAML reads 2024-01-01 as a date"),
        ("seed_everything", "true", "seed_everything: true (as YAML reads yes and on) is not an integer: give one"),
        ("seed_everything", "x", "seed_everything: 'x' is not an integer: give one from 0"),
        ("data.limit", "None", "data.limit: 'None' is text to YAML: write null for no value"),
        ("data.limit", "none", "data.limit: 'none' is text to YAML: write null"),
        ("data.mean", "None", "data.mean: 'None' is text to YAML: write null"),
        ("data.mean", "0.5", "data.mean: 0.5 is not a list: write values in brackets"),
        ("trainer.max_epochs", "1e1", "trainer.max_epochs: '1e1' is not an integer to YAML: write 10"),
        ("trainer.max_epochs", "1e-1", "trainer.max_epochs: '1e-1' is not an integer"),
        ("trainer.max_epochs", "2.5", "trainer.max_epochs: 2.5 is not an integer"),
        ("data.batch_size", "0o10", "data.batch_size: '0o10' is not an integer to YAML: write 8"),
        ("data.batch_size", "010", "YAML reads 010 as octal"),
        ("data.batch_size", "1:30", "YAML reads 1:30 as minutes and seconds"),
        ("data.batch_size", "yes", "data.batch_size: true (as YAML reads yes and on) is not an integer"),
        ("model.loss.temperature", "off", "model.loss.temperature: false (as YAML reads no and off) is not a number"),
        ("data.train", "{class_path: Digits, init_args: {train: 1}}", "data.train.train: 1 is not true or false"),
        ("data.train", "{class_path: Digits, init_args: {train: y}}", "data.train.train: 'y' is not true or false"),
        ("data.train", "{class_path: ImageFolder, init_args: {root: 2024}}", "root: 2024 is a number to YAML"),
        ("data.train", "{class_path: ImageFolder, init_args: {root: no}}", "root: false (as YAML reads no and"),
        ("data.train", "{class_path: ImageFolder, init_args: {root: 2024-01-01}}", "quote it"),
        ("model.backbone", "{class_path: ResNet, init_args: {weights: 2024}}", "put it in quotes, \"'2024'\" behind"),
    ],
)  # fmt: skip
def test_traps_of_yaml_are_said(parser: Any, flag: str, text: str, message: str) -> None:
    assert message in refusal(parser, (flag, text))


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("data.views_in", "banana", "data.views_in: unknown value 'banana'; known: device, workers"),
        ("data.views_in", "Device", "did you mean 'device'?"),
        ("model.rate_scaling", "cubic", "model.rate_scaling: unknown value 'cubic'; known: linear, none, sqrt"),
        ("data.views.crop_scale", "0.5", "crop_scale: 0.5 is not a list: write values in brackets, as in [0.5, 1.0]"),
        ("data.views.crop_scale", "[0.5]", "data.views.crop_scale: [0.5] does not have 2 values: give 2"),
        ("trainer.callbacks", "banana", "trainer.callbacks: 'banana' is not a list: write values in brackets"),
    ],
)
def test_what_fits_is_said(parser: Any, flag: str, text: str, message: str) -> None:
    assert message in refusal(parser, (flag, text))


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        (
            "model.loss",
            "DCL",
            "model.loss: 'DCL' is an objective, which does not fit here: give --model.loss.objective",
        ),
        ("model.loss", "contrast.losses.DCL", "'DCL' is an objective, which does not fit here: give --model.loss.obj"),
        (
            "model.loss.objective",
            "BarlowTwins",
            "'BarlowTwins' is a loss, which does not fit here: give --model.loss B",
        ),
        ("model.loss.temperature", "DCL", "'DCL' is an objective, which does not fit here"),
        ("model.loss.weighting", "HardNegativeMixing", "give --model.loss.transforms '[HardNegativeMixing]'"),
        ("model.loss.transforms", "[DCL]", "'DCL' is an objective"),
        ("model.backbone", "SimCLR", "'SimCLR' is a method, which does not fit here: give --model SimCLR"),
        ("model.head", "ResNet", "'ResNet' is a backbone"),
        ("model.optimizer", "ResNet", "'ResNet' is a backbone"),
        ("data", "ImageFolder", "'ImageFolder' is a data set, which does not fit here: give --data.train ImageFolder"),
        ("model.backbone", "resnet18", "give --model.backbone ResNet --model.backbone.name resnet18"),
        ("model.backbone", "wide_resnet50_2", "give --model.backbone ResNet --model.backbone.name wide_resnet50_2"),
        ("model", "simclr", "model: no class 'simclr'; did you mean 'SimCLR'?"),
        ("model.loss.objective", "dcl", "did you mean 'DCL'?"),
        ("model.schedule", "warmupcosine", "did you mean 'WarmupCosine'?"),
        ("model.optimizer", "Adm", "did you mean 'Adam'?"),
        ("model.optimizer", "torch.optim.Adan", "module 'torch.optim' has no attribute 'Adan': correct the class's"),
        ("model.schedule", "contrast.optim.Schedule", "contrast.optim.Schedule is abstract: give a subclass"),
        ("model.loss", "collections.Counter", "collections.Counter is not a subclass of Loss: give one, say BYOLLoss"),
    ],
)
def test_a_class_in_the_wrong_place(parser: Any, flag: str, text: str, message: str) -> None:
    assert message in refusal(parser, (flag, text))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            [("model.optimizer.lr", "0.1")],
            "model.optimizer.lr: no class is set that takes this argument: set it first",
        ),
        ([("model.optimizer.lr", "0.1")], "--model.optimizer torch.optim.SGD --model.optimizer.lr VALUE"),
        ([("model.schedule.warmup_epochs", "0")], "--model.schedule WarmupCosine --model.schedule.warmup_epochs VALUE"),
        ([("model.head.output_width", "8")], "--model.head SimCLRHead --model.head.output_width VALUE"),
        ([("data.test.train", "false")], "--data.test ImageFolder --data.test.train VALUE"),
    ],
)
def test_arguments_of_a_class_that_is_not_named(parser: Any, flags: list[tuple[str, str]], message: str) -> None:
    """A method's own default takes no single arguments: which class they are of has to be said."""
    assert message in refusal(parser, ("model", "MoCo"), ("data.test", "null"), *flags)


def test_a_class_that_is_named_takes_arguments(parser: Any) -> None:
    named = [("model.optimizer", "torch.optim.SGD"), ("model.optimizer.lr", "0.1"), ("model.schedule", "WarmupCosine")]
    _, config = typed(parser, ("model", "MoCo"), *named, ("model.schedule.warmup_epochs", "0"))
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.1


UNTYPED = """
from contrast.losses import Objective

class Untyped:
    def __init__(self, root, n=64):
        self.root, self.n = root, n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        raise NotImplementedError

class Margin(Objective):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin

    def forward(self, positive, negatives):
        return positive.logit
"""


def test_arguments_without_annotations(parser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument that a user's class does not annotate takes any value; it has to be given where it has no default."""
    (tmp_path / "without_annotations.py").write_text(UNTYPED)
    monkeypatch.syspath_prepend(tmp_path)
    untyped, margin = (
        ("data.train", "without_annotations.Untyped"),
        ("model.loss.objective", "without_annotations.Margin"),
    )
    given = [untyped, ("data.train.root", "x"), ("data.train.n", "300"), margin, ("model.loss.objective.margin", "1.5")]
    namespace, config = typed(parser, *given)
    assert config["data"]["init_args"]["train"]["init_args"] == {"root": "x", "n": 300}
    assert build(parser, namespace).model.loss.objective.margin == 1.5
    for flag in (untyped, margin):
        name = "root" if flag is untyped else "margin"
        message = refusal(parser, flag)
        assert f"the following arguments are required: {name}" in message, message
    sys.modules.pop("without_annotations")


def test_numbers_that_yaml_takes_for_text_and_the_types_do_not(parser: Any) -> None:
    for text in ("1e-3", "1E-3", "1.0e-3", ".001", "0.001"):
        _, config = typed(parser, ("model.loss.temperature", text))
        assert config["model"]["init_args"]["loss"]["init_args"]["temperature"] == 0.001
    assert typed(parser, ("data.batch_size", "1_28"))[1]["data"]["init_args"]["batch_size"] == 128


def leaves(node: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [each for key, value in node.items() if key != "class_path" for each in leaves(value, (*path, key))]
    return [(".".join(key for key in path if key != "init_args"), node)]


def test_every_typed_slot(parser: Any) -> None:
    """No trap is swallowed: it is refused by its path, or the value means what was written."""
    _, demo = typed(parser)
    slots = [(path, value) for path, value in leaves(demo) if isinstance(value, int | float) and "trainer" not in path]
    slots = [(path, value) for path, value in slots if "seed" not in path]
    assert len(slots) > 20
    for path, value in slots:
        for text in ("None", "0o17", "y"):
            message = refusal(parser, (path, text))
            assert f"{path}: " in message, message
            assert repr(text) in message
        if isinstance(value, int) and not isinstance(value, bool):
            assert "'1e1' is not an integer to YAML: write 10" in refusal(parser, (path, "1e1"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([("trainer.max_epochs", "ten"), ("data.batch_size", "many")], ["'ten' is not an integer", "'many' is not an"]),
        ([("trainer.max_epocs", "3"), ("data.batch_size", "many")], ["trainer: no argument 'max_epocs'", "'many'"]),
        ([("model.loss.objective", "DLC"), ("data.batch_size", "many")], ["did you mean 'DCL'", "'many'"]),
        ([("model.loss.temprature", "1"), ("data.limit", "None")], ["no argument 'temprature'", "write null"]),
        ([("data.batch_size", "a"), ("data.limit", "b"), ("data.workers", "c"), ("data.mean", "d")], ["'a'", "; "]),
    ],
)  # fmt: skip
def test_several_mistakes_stand_in_one_line(parser: Any, flags: list[tuple[str, str]], said: list[str]) -> None:
    message = refusal(parser, *flags)
    for each in said:
        assert each in message, message
    assert message.count("; ") <= 3


def test_what_follows_from_a_mistake_is_no_second_one(parser: Any) -> None:
    message = refusal(parser, ("data.train", "{class_path: ImageFolder, init_args: {root: 2024}}"))
    assert "required" not in message
    assert "; " not in message


@pytest.mark.parametrize("slot", SLOTS)
def test_short_names_are_ours(slot: str) -> None:
    importlib.import_module("torchvision.datasets")
    for name in choices(slot):
        path = own_classes({slot: name})[slot]
        module, _, last = path.rpartition(".")
        found = getattr(importlib.import_module(module), last)
        assert found.__name__ == name
        assert found.__module__.startswith("contrast.")
        assert own_classes({slot: {"class_path": name}})[slot] == {"class_path": path}
        assert own_classes({slot: [name]})[slot] == [path]
    assert own_classes({slot: "mine.Own"}) == {slot: "mine.Own"}
    assert own_classes({"name": "ResNet"}) == {"name": "ResNet"}


@pytest.mark.parametrize("slot", ["train", "test"])
def test_short_names_of_data_sets_stand_beside_those_of_torchvision(parser: Any, slot: str, tmp_path: Path) -> None:
    _, config = typed(parser, (f"data.{slot}", f"{{class_path: ImageFolder, init_args: {{root: {tmp_path}}}}}"))
    assert config["data"]["init_args"][slot]["class_path"] == "contrast.data.ImageFolder"
    assert yaml.safe_load(yaml.safe_dump(config)) == config


SETS = """
import numpy as np

class Plain:
    def __init__(self, count: int = 130):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if i >= self.count:
            raise IndexError(i)
        return np.full((8, 8), i, dtype=np.uint8), i % 2

class Typed(Plain):
    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return super().__getitem__(index)

class Nothing:
    pass
"""


def test_a_data_set_without_a_base_class(parser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets_without_base.py").write_text(SETS)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Plain", "Typed"):
        plain = f"{{class_path: sets_without_base.{name}, init_args: {{count: 140}}}}"
        namespace, _ = typed(parser, ("data.train", plain), ("data.limit", "null"))
        assert build(parser, namespace).data.train_samples == 140
        wrong = f"{{class_path: sets_without_base.{name}, init_args: {{cuont: 140}}}}"
        assert "data.train: no argument 'cuont' here" in refusal(parser, ("data.train", wrong))
    message = refusal(parser, ("data.train", "sets_without_base.Nothing"))
    assert "sets_without_base.Nothing is not a data set: give a class with __len__ and __getitem__" in message
    sys.modules.pop("sets_without_base")
