"""Ctrl-C and SIGTERM at any moment, while a run trains and while a command reads or writes a finished one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from tests.harness.fuzz.bases import bases
from tests.harness.fuzz.case import Case
from tests.harness.fuzz.runs import READERS, copied_run

__all__ = ["interruptions"]

_TRAIN = ("pretrain", "--config", "config.yaml", "--run", "run")
_ENDLESS = {"max_epochs": 100_000, "max_steps": -1}


@st.composite
def interruptions(draw: Callable) -> Case:
    """A command, a signal, and when: a training that has no end, or a reader of a finished run."""
    number = draw(st.sampled_from([signal.SIGINT, signal.SIGTERM]))
    after = draw(st.integers(0, 300)) / 100
    when = f"{number.name} after {after} s"
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(bases())))
        config = {**bases()[name], "trainer": {**bases()[name]["trainer"], **_ENDLESS}}
        return Case("interruption", f"{name}, {when}", _TRAIN, _configured(config), interrupt=(number, after))
    reader = draw(st.sampled_from(sorted(READERS.keys() - {"pages"})))
    return Case(
        "interruption",
        f"{reader}, {when}",
        READERS[reader],
        lambda folder: copied_run(folder) and None,
        interrupt=(number, after / 10),  # they take a part of a second
    )


def _configured(config: dict[str, Any]) -> Callable[[Path], None]:
    return lambda folder: (folder / "config.yaml").write_text(yaml.safe_dump(config)) and None
