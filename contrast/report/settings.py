"""Configuration of a run for the report: flattened keys, differences between runs, and the main facts in words."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from contrast.report.numbers import is_number
from contrast.runs.history import Change

__all__ = ["differing_settings", "facts_over_time", "flat_settings", "run_facts"]

ABSENT = "—"


def flat_settings(config: dict[str, Any]) -> dict[str, str]:
    """Flatten a configuration: every leaf as text, by its dotted key.

    Example:
        >>> flat_settings({"model": {"init_args": {"temperature": 0.1, "sizes": [8, 4]}}})
        {'model.init_args.temperature': '0.1', 'model.init_args.sizes.0': '8', 'model.init_args.sizes.1': '4'}
    """
    flat: dict[str, str] = {}
    _flatten(config, "", flat)
    return flat


def differing_settings(configs: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Compare configurations: the settings whose values differ.

    Returns:
        For each flat key that differs, its value in each configuration in order, "—" where the key is absent.
    """
    flats = [flat_settings(config) for config in configs]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    table = {key: [flat.get(key, ABSENT) for flat in flats] for key in keys}
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def run_facts(config: dict[str, Any], never_active: Collection[str] = ()) -> dict[str, str]:
    """Main facts of a run: method, loss, temperature, backbone, data, batch size, epochs and seed.

    Args:
        config: the resolved configuration. A fact that it does not name is left out.
        never_active: names of classes that never act in a run of this length. They are marked "(never active)".

    Returns:
        The facts as text, by their labels.
    """
    model, data = _arguments(config.get("model")), _arguments(config.get("data"))
    trainer = config.get("trainer")
    trainer = trainer if isinstance(trainer, dict) else {}
    facts = {
        "Method": _name(config.get("model")),
        "Loss": _loss(model["loss"], never_active) if "loss" in model else "",
        "Temperature": _temperature(_arguments(model.get("loss")).get("temperature")),
        "Backbone": _described(model.get("backbone")),
        "Data": _data(data.get("train")) or _name(config.get("data")),
        "Batch size": _plain(data.get("batch_size")),
        "Epochs": _plain(trainer.get("max_epochs")),
        "Seed": _plain(config.get("seed_everything")),
    }
    return {label: value for label, value in facts.items() if value}


def facts_over_time(facts: dict[str, str], history: Sequence[Change]) -> dict[str, str]:
    """Add to each fact its earlier values and the step at which each ended: "0.9 to step 40, then 0.2".

    Args:
        facts: the current facts by label.
        history: changes of settings in order of step.
    """
    found = dict(facts)
    for label, keys in _FACT_KEYS.items():
        changes = [change for change in history if change.key in keys]
        if changes and label in facts:
            earlier = [f"{change.old} to step {change.step:,}" for change in changes]
            found[label] = ", then ".join([*earlier, facts[label]])
    return found


_FACT_KEYS = {
    "Method": ("model",),
    "Loss": ("model.loss", "model.loss.objective", "model.loss.weighting"),
    "Temperature": ("model.loss.temperature",),
    "Backbone": ("model.backbone",),
    "Data": ("data", "data.train"),
    "Batch size": ("data.batch_size",),
    "Epochs": ("trainer.max_epochs",),
    "Seed": ("seed_everything",),
}
"""Configuration keys that each fact reports, by the label of the fact."""


def _flatten(value: Any, key: str, flat: dict[str, str]) -> None:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            _flatten(item, f"{key}.{name}" if key else str(name), flat)
    else:
        flat[key] = value if isinstance(value, str) else json.dumps(value, default=str)


def _arguments(node: Any) -> dict[str, Any]:
    arguments = node.get("init_args") if isinstance(node, dict) else None
    return arguments if isinstance(arguments, dict) else {}


def _name(node: Any) -> str:
    """Class name without its module, which the full configuration shows."""
    path = node.get("class_path") if isinstance(node, dict) else node
    return path.rpartition(".")[2] if isinstance(path, str) else ""


def _described(node: Any) -> str:
    """Class name with those of its arguments that are a single value or a list of values: "ConvNet (channels 1)"."""
    name = _name(node)
    said = [f"{key} {text}" for key, value in _arguments(node).items() if (text := _listed(value))]
    return f"{name} ({', '.join(said)})" if name and said else name


def _data(node: Any) -> str:
    """Class of a data set, with its folder, file or name if the configuration has one: "ImageFolder photos/train"."""
    arguments = _arguments(node)
    places = (arguments.get(name) for name in ("root", "path", "name"))
    place = next((each for each in places if isinstance(each, str) and each), "")
    return f"{_name(node)} {place}".strip()


def _listed(value: Any) -> str:
    return "-".join(map(_plain, value)) if isinstance(value, list) else _plain(value)


def _loss(node: Any, never_active: Collection[str]) -> str:
    """Objective, transforms and weighting of a loss as a sum: "DCL + HardNegativeMixing + BadPairMining"."""
    if node is None:
        return "the method's default loss"
    arguments = _arguments(node)
    transforms = arguments.get("transforms")
    pieces = [arguments.get("objective", node), *(transforms if isinstance(transforms, list) else [])]
    names = [name for name in map(_name, [*pieces, arguments.get("weighting")]) if name]
    return " + ".join(f"{name} (never active)" if name in never_active else name for name in names)


def _temperature(node: Any) -> str:
    return _plain(node) if is_number(node) else _described(node)


def _plain(value: Any) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value)
