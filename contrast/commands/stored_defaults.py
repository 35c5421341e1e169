"""Former defaults of classes: values of the keys that a stored configuration lacks.

Defaults of classes change between versions, and a run keeps the defaults it began with. A new run writes every argument
into its configuration, so a key is missing only if the version that wrote the configuration did not have it.
`with_stored_defaults` adds such keys. Apply it to every configuration read from a run folder or a checkpoint. Do not
apply it to a configuration written by a user: there, a missing key means today's default.

To change a default, add the former value to `_FORMER`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contrast.commands.class_names import SLOTS
from contrast.commands.configuration import Config, require_plain, short

__all__ = ["with_chosen_stem", "with_stored_defaults"]

_FORMER: dict[str, Config] = {
    "AdaptiveTemperature": {"form": "product"},
    "BYOL": {"final_bias": True},
    "ImageData": {"mean": [0.5], "std": [0.25]},
}
"""Former default values of arguments, by the short name of the class."""

_FORMER_SMALL_IMAGE = 64
"""Image size in pixels up to which ``stem: auto`` meant the small stem.

New runs store "small" or "large", never "auto".
"""


def with_stored_defaults(config: Config) -> Config:
    """Add former defaults to a configuration that was read from a run folder or a checkpoint.

    Args:
        config: the configuration as stored; it is not modified.

    Returns:
        The configuration with the values that its missing keys had when it was written.

    Raises:
        InputError: if the configuration is nested too deeply or has values that no configuration can have.
    """
    require_plain(config, "configuration")
    size = _image_size(config)

    def fill(name: str, arguments: Config) -> Config:
        filled = {**_FORMER.get(name, {}), **arguments}
        return _former_stem(filled, size) if name == "ResNet" else filled

    data = config.get("data")
    if isinstance(data, dict) and "class_path" not in data:  # the default class
        config = {**config, "data": {"class_path": "ImageData"} | data}
    filled: Config = _with_arguments(config, fill)
    return filled


def with_chosen_stem(config: Config) -> tuple[Config, list[str]]:
    """Replace ``stem: auto`` in the configuration of a new run by the stem chosen for the image size.

    Args:
        config: the resolved configuration.

    Returns:
        The configuration, and one note for each stem chosen at an image size for which both stems are in use.
    """
    from contrast.models.resnet import SMALL_IMAGE, choose_stem  # takes seconds: imports torch

    size, notes = _image_size(config), []

    def fill(name: str, arguments: Config) -> Config:
        pixels = arguments.get("image_size", size)
        if name != "ResNet" or arguments.get("stem", "auto") != "auto" or not isinstance(pixels, int):
            return arguments
        stem = choose_stem("auto", pixels)
        if SMALL_IMAGE < pixels <= _FORMER_SMALL_IMAGE:
            notes.append(
                f"ResNet uses its {stem} stem for {pixels}-pixel images; --model.backbone.stem small keeps 16 times "
                "as many positions, and a step takes about 16 times as long"
            )
        return {**arguments, "stem": stem}

    chosen: Config = _with_arguments(config, fill)
    return chosen, notes


def _former_stem(arguments: Config, size: Any) -> Config:
    size = arguments.get("image_size", size)
    if arguments.get("stem", "auto") != "auto" or not isinstance(size, int):
        return arguments
    return {**arguments, "stem": "small" if size <= _FORMER_SMALL_IMAGE else "large"}


def _image_size(config: Config) -> Any:
    """Image size for backbones that name none: the size of the views, or ResNet's own default."""
    found: Any = config
    for name in ("data", "init_args", "views", "init_args", "size"):
        found = found.get(name) if isinstance(found, dict) else None
    return 224 if found is None else found


def _with_arguments(value: Any, fill: Callable[[str, Config], Config], slot: str = "") -> Any:
    """Replace the arguments of every class of this package in a part of a configuration.

    Args:
        value: the part of a configuration.
        fill: function of the class's short name and its arguments, which returns the new arguments.
        slot: the key that holds this part.
    """
    if isinstance(value, list):
        return [_with_arguments(item, fill, slot) for item in value]
    if isinstance(value, str) and slot in SLOTS and _is_ours(value):
        arguments = fill(short(value), {})
        return {"class_path": value, "init_args": arguments} if arguments else value
    if not isinstance(value, dict):
        return value
    inside = {key: _with_arguments(item, fill, key) for key, item in value.items()}
    named = inside.get("class_path")
    if not isinstance(named, str) or not _is_ours(named):
        return inside
    arguments = fill(short(named), inside.get("init_args") or {})
    return {**inside, "init_args": arguments} if arguments else inside


def _is_ours(class_path: str) -> bool:
    return "." not in class_path or class_path.startswith("contrast.")
