"""What YAML 1.1 makes of a word, what a short name means, and several mistakes at once: said as they were written."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contrast.commands.choices import SLOTS, choices, own_classes
from contrast.commands.completing import complete
from contrast.commands.configuration import compose
from contrast.commands.parser import build, resolve, run_parser
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
