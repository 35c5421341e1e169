"""Damage a configuration: one value or several, at places drawn with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from tests.harness.fuzz.bases import Config
from tests.harness.fuzz.values import anything, class_names, numbers, traps, whole_numbers

__all__ = ["mutated"]

Path = tuple[Any, ...]
Draw = Callable[[st.SearchStrategy[Any]], Any]

_DEEPEST = 12
"""Deeper than any configuration: what is below is an earlier mutation's nesting of thousands."""


@st.composite
def mutated(draw: Draw, config: Config) -> tuple[Config, str]:
    """A copy of the configuration with one to three mutations, and in words which."""
    config = copy.deepcopy(config)
    said = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 1, 2, 3]))):
        # Most of what is no number at all is refused at once: what fits its type goes further.
        way = draw(
            st.sampled_from(["number"] * 7 + ["value"] * 2 + ["class"] * 2 + ["trap", "remove", "misspell", "add"])
        )
        places = _places(draw, config, way == "number")
        if places:
            said.append(_mutate(draw, config, draw(st.sampled_from(places)), way))
    return config, "; ".join(said)


def _places(draw: Draw, config: Config, numeric: bool) -> list[Path]:
    """Places of one section: the trainer's many must not crowd out a loss's few."""
    sections = [name for name in ("model", "model", "model", "data", "data", "trainer", "scores") if name in config]
    others = [name for name in config if name not in sections]
    section = draw(st.sampled_from([*sections, *others]))
    below = [(section, *path) for path in _walk(config[section])]
    return [path for path in below if _is_number(_at(config, path))] if numeric else [(section,), *below]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _at(config: Any, path: Path) -> Any:
    for name in path:
        config = config[name]
    return config


def _walk(value: Any, depth: int = 0) -> Iterator[Path]:
    if depth > _DEEPEST:
        return
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield (key,)
        for path in _walk(item, depth + 1):
            yield (key, *path)


def _mutate(draw: Draw, config: Config, path: Path, way: str) -> str:
    holder = _at(config, path[:-1])
    key, old = path[-1], holder[path[-1]]
    where = ".".join(map(str, path))
    if way == "remove":
        del holder[key]
        return f"without {where}"
    if way == "misspell" and isinstance(holder, dict):
        holder[f"{key}"[1:] + f"{key}"[:1]] = holder.pop(key)
        return f"{where} misspelt"
    if way == "add" and isinstance(old, dict):
        name = draw(st.one_of(st.text(max_size=6), st.sampled_from(["class_path", "init_args", "a.b", "__class__"])))
        old[name] = draw(anything())
        return f"{where} with {name!r}: {old[name]!r:.80}"
    holder[key] = _new(draw, way, key, old)
    return f"{where}: {holder[key]!r:.120}"


def _new(draw: Draw, way: str, key: Any, old: Any) -> Any:
    if way == "trap":
        trap = draw(st.sampled_from(traps))
        return trap["class_path"] if key == "class_path" else copy.deepcopy(trap)
    if key == "class_path" and way != "value":
        return draw(class_names())
    if way == "class" and isinstance(old, dict):
        return {"class_path": draw(class_names())}
    if way == "number":
        return draw(numbers() if isinstance(old, float) else st.one_of(whole_numbers(), numbers()))
    return draw(anything())
