"""What a key that a stored configuration lacks meant, and that no configuration of a user's is touched."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from contrast.commands.configuration import compose
from contrast.commands.stored_defaults import with_chosen_stem, with_stored_defaults
from contrast.errors import InputError


def stored(backbone: Any = None, size: int = 64, **data: Any) -> dict[str, Any]:
    views = {"class_path": "contrast.data.SimCLRViews", "init_args": {"size": size}}
    return {
        "seed_everything": 0,
        "model": {"class_path": "SimCLR", "init_args": {"backbone": backbone or {"class_path": "ResNet"}}},
        "data": {"class_path": "contrast.data.ImageData", "init_args": {"views": views, **data}},
    }


def arguments(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return config["data"]["init_args"], config["model"]["init_args"]["backbone"]["init_args"]


def test_a_stored_configuration_without_mean_and_std_means_a_half_and_a_quarter() -> None:
    data, _ = arguments(with_stored_defaults(stored()))
    assert (data["mean"], data["std"]) == ([0.5], [0.25])
    data, _ = arguments(with_stored_defaults(stored(mean=[0.1], std=[0.2])))
    assert (data["mean"], data["std"]) == ([0.1], [0.2])
    unnamed = with_stored_defaults({"data": {"init_args": {}}})
    assert unnamed["data"]["init_args"]["mean"] == [0.5]


@pytest.mark.parametrize(("size", "stem"), [(32, "small"), (64, "small"), (65, "large"), (224, "large")])
def test_a_stored_stem_of_auto_stays_what_it_was(size: int, stem: str) -> None:
    for said in ({}, {"stem": "auto"}):
        backbone = {"class_path": "contrast.models.ResNet", "init_args": {"image_size": size, **said}}
        assert arguments(with_stored_defaults(stored(backbone)))[1]["stem"] == stem
    assert arguments(with_stored_defaults(stored("ResNet", size)))[1]["stem"] == stem
    given = {"class_path": "ResNet", "init_args": {"image_size": size, "stem": "small"}}
    assert arguments(with_stored_defaults(stored(given)))[1]["stem"] == "small"


@pytest.mark.parametrize(
    ("size", "stem", "told"), [(32, "small", 0), (33, "large", 1), (64, "large", 1), (96, "large", 0)]
)
def test_a_new_run_stores_the_stem_that_auto_stands_for(size: int, stem: str, told: int) -> None:
    backbone = {"class_path": "contrast.models.ResNet", "init_args": {"image_size": size, "stem": "auto"}}
    chosen, notes = with_chosen_stem(stored(backbone, size))
    assert arguments(chosen)[1]["stem"] == stem
    assert len(notes) == told
    assert all(f"{size}-pixel" in note and "--model.backbone.stem small" in note for note in notes)
    assert with_stored_defaults(chosen)["model"] == chosen["model"]
    given = {"class_path": "ResNet", "init_args": {"image_size": size, "stem": "small"}}
    assert with_chosen_stem(stored(given)) == (stored(given), [])


def test_classes_inside_others_and_of_other_packages() -> None:
    inner = {"class_path": "ResNet", "init_args": {"image_size": 48}}
    outer = {"class_path": "contrast.models.Compiled", "init_args": {"backbone": inner}}
    filled = with_stored_defaults(stored(outer))
    assert arguments(filled)[1]["backbone"]["init_args"]["stem"] == "small"
    foreign = {"class_path": "mine.ResNet", "init_args": {"image_size": 48}}
    assert arguments(with_stored_defaults(stored(foreign)))[1] == {"image_size": 48}


def test_the_configuration_given_is_left_as_it_is() -> None:
    config = stored()
    before = copy.deepcopy(config)
    with_stored_defaults(config)
    with_chosen_stem(config)
    assert config == before


def test_a_run_folder_s_configuration_is_stored_and_a_user_s_is_not(tmp_path: Path) -> None:
    text = yaml.safe_dump(stored())
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    for folder in ("run", "mine"):
        (tmp_path / folder / "config.yaml").write_text(text)
    assert compose([tmp_path / "run" / "config.yaml"], ()).config["data"]["init_args"]["mean"] == [0.5]
    assert "mean" not in compose([tmp_path / "mine" / "config.yaml"], ()).config["data"]["init_args"]


def test_a_stored_configuration_that_is_nested_without_end_is_refused() -> None:
    config: dict[str, Any] = {}
    config["model"] = config
    with pytest.raises(InputError, match="nested too deeply"):
        with_stored_defaults(config)
