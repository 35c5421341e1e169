"""Weights from elsewhere, damaged: into a backbone that is trained, and into one that is evaluated."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import yaml
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.harness.fuzz.arrays import Trap
from tests.harness.fuzz.bases import bases
from tests.harness.fuzz.case import Case
from tests.harness.fuzz.damage import damage, ways

__all__ = ["weights"]


@cache
def _state() -> dict[str, torch.Tensor]:
    from contrast.models import ResNet

    return ResNet("resnet18", base_width=4, image_size=8, channels=1).plain_module.state_dict()


@st.composite
def weights(draw: Callable) -> Case:
    """A file of weights, damaged or of odd tensors."""
    suffix = draw(st.sampled_from(["safetensors", "pth"]))
    way = draw(st.sampled_from(["damage", "damage", "damage", "odd"]))
    done, odd = draw(ways()), draw(st.sampled_from(sorted(_ODD)))

    def prepare(folder: Path) -> None:
        file = folder / f"weights.{suffix}"
        content = _ODD[odd]() if way == "odd" else _state()
        if suffix == "pth" or not all(isinstance(value, torch.Tensor) for value in content.values()):
            torch.save(content, file)
        else:
            save_file({name: value.contiguous() for name, value in content.items()}, file)
        if way == "damage":
            damage(file, *done)
        config = dict(bases()["simclr"])
        settings = {"name": "resnet18", "base_width": 4, "weights": file.name}
        model = {**config["model"]["init_args"], "backbone": {"class_path": "ResNet", "init_args": settings}}
        config["model"] = {**config["model"], "init_args": model}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "data.yaml").write_text(yaml.safe_dump({"data": config["data"]}))

    evaluated = draw(st.integers(0, 3)) == 0
    foreign = ("knn", "--weights", f"weights.{suffix}", "--backbone", "resnet18", "--data", "data.yaml")
    trained = ("pretrain", "--config", "config.yaml", "--run", "run")
    what = f"weights.{suffix} {f'of {odd}' if way == 'odd' else f'{done[0]} ({done[1]})'}"
    return Case("weights", what, foreign if evaluated else trained, prepare)


def _other(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], dict[str, torch.Tensor]]:
    return lambda: {name: change(value) for name, value in _state().items()}


_ODD: dict[str, Callable[[], dict]] = {
    "nothing": dict,
    "a trap": lambda: {"state_dict": Trap()},
    "texts": lambda: dict.fromkeys(_state(), "x"),
    "no axes": _other(lambda value: torch.zeros(())),
    "NaN": _other(lambda value: torch.full_like(value, float("nan")) if value.is_floating_point() else value),
    "integers": _other(lambda value: value.to(torch.int8)),
    "half": _other(lambda value: value.half()),
    "complex": _other(lambda value: value.to(torch.complex64)),
    "double": _other(lambda value: value.double()),
    "more": lambda: _state() | {"more": torch.zeros(2)},
    "one of them": lambda: dict(list(_state().items())[:1]),
}
