"""The shipped configurations, small: a net of a few hundred weights, 96 samples, two steps."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from contrast.commands.configuration import compose

__all__ = ["Config", "bases", "small"]

Config = dict[str, Any]
CONFIGS = Path(__file__).parents[3] / "configs"

_LESS = {
    "widths": [4, 8],
    "output_width": 8,
    "hidden_width": 8,
    "predictor_width": 8,
    "width": 8,
    "size": 48,
    "samples": 48,
    "neighbours": 5,
    "hardest": 8,
    "pairs": 4,
    "queries": 4,
    "pool": 16,
    "semi_hard": 4,
    "random": 8,
    "count": 8,
    "start_epoch": 0,
    "most": 3,
}
"""Sizes of pieces, wherever they stand in the model."""

_TRAINER = {
    "data": {"class_path": "ImageData", "init_args": {"limit": 96, "batch_size": 32}},
    "trainer": {"max_epochs": 2, "max_steps": 2, "accelerator": "cpu"},
    "metrics": {"every_n_steps": 1},
    "scores": {"every_n_steps": 1},
    "bank": {"every_n_steps": 1},
    "online_knn": {"every_n_epochs": 1},
}


@cache
def bases() -> dict[str, Config]:
    """Small configurations by name: every method, every loss on two methods, the banks, and series."""
    found = {path.stem: small([path]) for path in sorted((CONFIGS / "method").glob("*.yaml"))}
    del found["mocov2plus"]  # says what differs from mocov2
    for overlay in sorted((CONFIGS / "loss").glob("*.yaml")):
        for method in ("simclr", "mocov2"):
            found[f"{overlay.stem} on {method}"] = small([CONFIGS / "method" / f"{method}.yaml", overlay])
    for overlay in sorted((CONFIGS / "bank").glob("*.yaml")):
        config = found[f"{overlay.stem} on mocov2"] = small([CONFIGS / "method/mocov2.yaml", overlay])
        if overlay.stem in ("nearest", "stratified"):  # they keep one row a sample
            config["model"]["init_args"]["bank"]["init_args"]["size"] = 96
    found["series"] = _series()
    return found


def small(files: list[Path]) -> Config:
    """A method's files over the demo, made small."""
    config = compose([CONFIGS / "demo.yaml", *files], ()).config
    model = config["model"]["init_args"]
    model["backbone"] = {"class_path": "ConvNet", "init_args": {"widths": [4, 8]}}
    _lessen(model)
    config["data"]["init_args"].update(_TRAINER["data"]["init_args"])
    config.update({name: dict(value) for name, value in _TRAINER.items() if name != "data"})
    return copy.deepcopy(config)


def _series() -> Config:
    config = compose([CONFIGS / "data/basic_motions.yaml", CONFIGS / "method/simclr.yaml"], ()).config
    model = config["model"]["init_args"]
    model["backbone"] = {"class_path": "ResNet1d", "init_args": {"base_width": 4, "blocks": [1, 1]}}
    _lessen(model)
    config["data"]["init_args"]["workers"] = 0
    config.update({name: dict(value) for name, value in _TRAINER.items() if name != "data"})
    return config


def _lessen(value: Any) -> None:
    for part in _mappings(value):
        for name in part.keys() & _LESS.keys():
            part[name] = _LESS[name]


def _mappings(value: Any) -> Iterator[Config]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _mappings(item)
