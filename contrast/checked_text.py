"""Safe parsing of untrusted YAML and JSON, with limits on size, nesting depth and repetition."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from contrast.errors import InputError

__all__ = ["MOST_BYTES", "parse_json", "parse_yaml", "small_enough"]

MOST_BYTES = 64 << 20
"""Largest size in bytes of a file that is parsed; no JSON file of a run folder is larger."""

_YAML_CHARACTERS = 1_000_000
_EXPANDED_CHARACTERS = 4_000_000  # after all aliases are expanded
_DEEPEST = 40  # levels of nesting
_NODES = 25_000  # after all aliases are expanded
_LONGEST_NUMBER = 60  # characters

_OCTAL, _SEXAGESIMAL = re.compile(r"[-+]?0[0-7_]+"), re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")

# Exceptions observed from PyYAML: its own errors, and Python's for a tag whose text is invalid, for example `!!int x`.
_NOT_YAML = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which stops during reading if the nesting is too deep or there are too many nodes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth, self._nodes = self._depth + 1, self._nodes + 1
        if self._depth > _DEEPEST or self._nodes > _NODES:
            raise InputError("nested too deeply, or too many values, for a configuration: write less")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def parse_yaml(text: str) -> Any:
    """Parse YAML safely: duplicate keys are refused, and the size is limited after all aliases are expanded.

    Args:
        text: the YAML, of at most a million characters.

    Returns:
        The value as plain Python data; None for an empty text.

    Raises:
        InputError: one line, without a file name, for text that is not YAML, a duplicate key (with both line numbers),
            a number that YAML 1.1 reads as octal or sexagesimal, and text beyond the limits.

    Example:
        >>> parse_yaml("a: {b: [1, 2.5, yes]}")
        {'a': {'b': [1, 2.5, True]}}
    """
    if len(text) > _YAML_CHARACTERS:
        raise InputError(
            f"{len(text):,} characters are too many for a configuration: give at most {_YAML_CHARACTERS:,}"
        )
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except InputError:
        raise
    except _NOT_YAML as error:
        raise InputError(f"not YAML: {' '.join(str(error).split())[:300] or type(error).__name__}") from error


def _check(root: yaml.Node) -> None:
    """Check every node once, children first, and limit the size that the text has after all aliases are expanded."""
    sizes: dict[int, tuple[int, int] | None] = {}  # None for the ancestors of the current node
    waiting = [(root, False)]
    while waiting:
        node, done = waiting.pop()
        children = _children(node)
        if done:
            known = [sizes[id(child)] or (0, 0) for child in children]
            own = len(node.value) if isinstance(node, yaml.ScalarNode) else 0
            sizes[id(node)] = (1 + sum(each[0] for each in known), own + sum(each[1] for each in known))
            count, characters = sizes[id(node)] or (0, 0)
            if count > _NODES or characters > _EXPANDED_CHARACTERS:
                raise InputError(f"line {_line(node)}: aliases repeat it too often: write it out")
        elif id(node) not in sizes:
            sizes[id(node)] = None
            _check_scalar(node) if isinstance(node, yaml.ScalarNode) else _check_keys(node)
            waiting += [(node, True), *((child, False) for child in children)]
        elif sizes[id(node)] is None:
            raise InputError(f"line {_line(node)}: it contains itself through an alias: write it out")


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.Node) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        name, line = (key.tag, key.value), _line(key)
        if name in lines:
            where = f"in line {line}" if line == lines[name] else f"in lines {lines[name]} and {line}"
            raise InputError(f"the key {key.value!r:.60} is written twice, {where}: keep one")
        lines[name] = line


def _check_scalar(node: yaml.ScalarNode) -> None:
    kind = node.tag.rpartition(":")[2]
    if kind not in ("int", "float"):
        return
    if len(node.value) > _LONGEST_NUMBER:
        raise InputError(f"line {_line(node)}: a number of {len(node.value):,} characters: give one of at most 64 bits")
    if _OCTAL.fullmatch(node.value) or _SEXAGESIMAL.fullmatch(node.value):
        read = "octal" if ":" not in node.value else "minutes and seconds (base 60)"
        raise InputError(f"line {_line(node)}: YAML reads {node.value} as {read}: write a plain number, or quote it")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


_JSON = json.JSONDecoder(parse_constant=lambda name: None)
"""A decoder shared by all calls: `json.loads` makes a new one per text, as slow as parsing a row of metrics.jsonl."""


def parse_json(text: str | bytes) -> Any:
    """Parse JSON safely; NaN and infinities, which JSON does not define, become None.

    Args:
        text: the JSON, as text or bytes.

    Raises:
        ValueError: if the text is not JSON, or is longer or more deeply nested than any file that this project writes.
    """
    if len(text) > MOST_BYTES:
        raise ValueError("too long")
    try:
        as_text = text if isinstance(text, str) else text.decode(json.detect_encoding(text), "surrogatepass")
        found = _JSON.decode(as_text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    brackets = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if brackets > _DEEPEST and _deeper(found, _DEEPEST):
        raise ValueError("nested too deeply")
    return found


def _deeper(value: Any, levels: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 0 or _deeper(each, levels - 1) for each in children if isinstance(each, dict | list))


def small_enough(path: Path, most: int = MOST_BYTES) -> bool:
    """Whether a path is a regular file of at most `most` bytes; False for a pipe or a device, which may be endless."""
    return path.is_file() and path.stat().st_size <= most
