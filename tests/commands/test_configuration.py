"""How files and flags are laid over each other."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml

from contrast.commands.class_names import SLOTS, choices
from contrast.commands.configuration import compose, same_class
from contrast.errors import InputError

BASE = {
    "model": {
        "class_path": "SimCLR",
        "init_args": {
            "backbone": {"class_path": "ConvNet", "init_args": {"widths": [8, 16]}},
            "loss": {
                "class_path": "ContrastiveLoss",
                "init_args": {"objective": {"class_path": "DCLW", "init_args": {"sigma": 0.3}}, "temperature": 0.5},
            },
        },
    }
}


def laid(*flags: tuple[str, str]) -> dict:
    return compose([], flags, base=BASE).config["model"]


def test_another_class_starts_from_its_own_defaults_and_a_note_says_what_went() -> None:
    composition = compose([], [("model.loss.objective", "DCL")], base=BASE)
    loss = composition.config["model"]["init_args"]["loss"]["init_args"]
    assert loss == {"objective": {"class_path": "DCL"}, "temperature": 0.5}
    assert composition.notes == [
        "model.loss.objective: DCLW -> DCL, which starts from its own defaults (dropped: sigma)"
    ]


def test_two_classes_of_one_name_are_told_apart_by_their_dotted_paths() -> None:
    base = {"model": {"class_path": "first.Net", "init_args": {"width": 3}}}
    (note,) = compose([], [("model", "second.Net")], base=base).notes
    assert note == "model: first.Net -> second.Net, which starts from its own defaults (dropped: width)"


def test_the_same_class_keeps_its_arguments_however_it_is_spelt() -> None:
    for name in ("DCLW", "contrast.losses.DCLW", "contrast.losses.objectives.DCLW"):
        loss = laid(("model.loss.objective", name))["init_args"]["loss"]["init_args"]
        assert loss["objective"]["init_args"] == {"sigma": 0.3}
    assert not same_class("mine.DCL", "contrast.losses.DCL")


@pytest.mark.parametrize("order", [1, -1])
def test_method_and_loss_in_both_orders(order: int) -> None:
    flags = [("model", "MoCo"), ("model.loss.objective", "DCL"), ("model.loss.temperature", "0.1")][::order]
    assert laid(*flags) == {
        "class_path": "MoCo",
        "init_args": {
            "loss": {
                "class_path": "ContrastiveLoss",
                "init_args": {"objective": {"class_path": "DCL"}, "temperature": 0.1},
            }
        },
    }


def test_a_whole_class_as_a_flag() -> None:
    model = laid(("model.loss", "{class_path: mine.Loss, init_args: {power: 2}}"))
    assert model["init_args"]["loss"] == {"class_path": "mine.Loss", "init_args": {"power": 2}}


def test_files_merge_in_order_and_lists_are_replaced(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(yaml.safe_dump(BASE | {"trainer": {"max_epochs": 3, "precision": "32-true"}}))
    second.write_text("trainer: {max_epochs: 5}\nmodel: {init_args: {backbone: {init_args: {widths: [4]}}}}")
    config = compose([first, second], [("trainer.max_epochs", "7")]).config
    assert config["trainer"] == {"max_epochs": 7, "precision": "32-true"}
    assert config["model"]["init_args"]["backbone"] == {"class_path": "ConvNet", "init_args": {"widths": [4]}}


@pytest.mark.parametrize(("text", "words"), [("- 1\n- 2", "no mapping"), ("a: [1", "not YAML"), (None, "cannot read")])
def test_files_that_are_no_configuration(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "a.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=words):
        compose([file], [])


def test_choices_are_the_classes_that_there_are() -> None:
    """The list is read from the sources without importing them; it must be what importing them gives."""
    import contrast.data
    import contrast.losses
    import contrast.methods
    import contrast.models
    import contrast.optim

    bases = {
        "model": contrast.methods.ContrastiveMethod,
        "loss": contrast.losses.Loss,
        "objective": contrast.losses.Objective,
        "temperature": contrast.losses.Temperature,
        "backbone": contrast.models.Backbone,
        "head": contrast.models.Head,
        "bank": contrast.banks.MemoryBank,
        "schedule": contrast.optim.Schedule,
        "views": contrast.data.RandomViews,
    }
    for slot, base in bases.items():
        known = [each for each in _leaves(base) if each.__module__.startswith("contrast.")]
        ours = {each.__name__ for each in known if not inspect.isabstract(each)}
        assert set(choices(slot)) == ours, slot
    assert set(choices("train")) == {"AeonSet", "ArrayImages", "ArraySeries", "Digits", "ImageFolder", "TsFile"}
    assert SLOTS.keys() >= bases.keys()


def _leaves(base: type) -> set[type]:
    below = set(base.__subclasses__())
    return below.union(*(_leaves(each) for each in below))
