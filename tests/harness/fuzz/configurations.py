"""Configurations of `contrast pretrain` that are wrong somewhere, or nearly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from contrast.commands.building import resolve, run_parser
from contrast.commands.completing import complete
from tests.harness.fuzz.bases import Config, bases
from tests.harness.fuzz.case import SPRUNG, Case
from tests.harness.fuzz.documents import command_lines, documents
from tests.harness.fuzz.mutations import mutated

__all__ = ["configurations"]

_WRITTEN: dict[str, Config] = {}

_TRAP = f"""\
class Trap:
    def __init__(self, *given, **named):
        open({SPRUNG!r}, "w").close()
"""


@st.composite
def configurations(draw: Callable) -> Case:
    """A configuration as files and flags, seven in ten a shipped one with a few values changed."""
    kind = draw(st.sampled_from(["mutated"] * 7 + ["flag"] * 2 + ["document"] * 2 + ["command line"]))
    if kind == "document":
        return draw(documents())
    if kind == "command line":
        return draw(command_lines())
    name = draw(st.sampled_from(sorted(bases())))
    if kind == "flag":
        return draw(_flagged(name))
    # Written out, a configuration has every argument of every class; as it was, a class may be exchanged.
    written = draw(st.booleans())
    config, said = draw(mutated(_written(name) if written else bases()[name]))
    return Case(
        "configuration",
        f"{name}{', written out' if written else ''}: {said}",
        ("pretrain", "--config", "config.yaml", "--run", "run"),
        partial(_prepare, config),
    )


@st.composite
def _flagged(draw: Callable, name: str) -> Case:
    config, said = draw(mutated(bases()[name]))
    flags = [f"--{path}={value}" for path, value in _differences(bases()[name], config)]
    return Case(
        "flags",
        f"{name}: {said}",
        ("pretrain", "--config", "config.yaml", "--run", "run", *flags),
        partial(_prepare, bases()[name]),
    )


def _differences(old: Any, new: Any, path: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """What has changed, as flags; what was removed is no flag."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            found
            for key, value in new.items()
            for found in _differences(old.get(key), value, path if key == "init_args" else (*path, str(key)))
        ]
    if old is new or repr(old) == repr(new):
        return []
    names = path[:-1] if path[-1:] == ("class_path",) else path
    return [(".".join(names), yaml.safe_dump(new, default_flow_style=True).removesuffix("...\n").strip())]


def _written(name: str) -> Config:
    """The configuration with every default, made once."""
    if name not in _WRITTEN:
        _WRITTEN[name] = resolve(run_parser(), complete(bases()[name]))[1]
    return _WRITTEN[name]


def _prepare(config: Config, folder: Path) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "trap.py").write_text(_TRAP)
