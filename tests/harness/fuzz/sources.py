"""A small run on a data set of the folder that it is started in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.harness.fuzz.bases import bases
from tests.harness.fuzz.case import Case

__all__ = ["pretraining"]


def pretraining(
    kind: str, what: str, train: dict[str, Any], prepare: Callable[[Path], None], given: dict[str, Any], base: str = ""
) -> Case:
    """A case that pretrains on `train`.

    Args:
        kind, what: of the case.
        train: the class of the data set and its arguments, with paths from the folder.
        prepare: writes its files.
        given: further arguments of the data.
        base: name of the configuration that it lies over.
    """
    config = {
        name: dict(value) if isinstance(value, dict) else value for name, value in bases()[base or "simclr"].items()
    }
    arguments = {**config["data"]["init_args"], "train": train, "test": None, "batch_size": 16, **given}
    arguments.pop("limit", None)
    config["data"] = {**config["data"], "init_args": arguments}

    def write(folder: Path) -> None:
        prepare(folder)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))

    return Case(kind, what, ("pretrain", "--config", "config.yaml", "--run", "run"), write)
