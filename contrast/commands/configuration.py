"""Read, check and merge YAML configurations and command-line flags.

A configuration names classes: ``{class_path: DCL, init_args: {...}}``, or just ``DCL``. Later files and flags override
earlier ones key by key, with one special rule: if a different class is named, all arguments of the earlier class are
dropped, and a note says so. Flags are applied from the shortest path to the longest, so ``--model MoCo
--model.loss.objective DCL`` means the same in either order.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from contrast.checked_text import MOST_BYTES, parse_yaml
from contrast.errors import InputError, did_you_mean
from contrast.run_folder import RunFolder

__all__ = [
    "SECTIONS",
    "Composition",
    "compose",
    "is_text",
    "read_yaml",
    "require_plain",
    "require_section",
    "shipped_configuration",
]

_DEEPEST, _MOST = 40, 20_000  # levels of nesting; number of values
_OF_CLASSES = {"class_path", "init_args", "dict_kwargs"}
_INTEGERS = range(-(2**63), 2**64)  # integers that torch and numpy can represent
_LARGEST = 3.4e38  # largest float32, because networks are trained in float32


def require_plain(value: Any, where: str) -> None:
    """Check that a value from a file, a flag or a checkpoint contains only what a configuration needs.

    Args:
        value: the value as YAML or a checkpoint gave it.
        where: source of the value, for messages.

    Raises:
        InputError: if a key is not a name, a class is not a dotted name, arguments are not a mapping, a number is
            beyond 64 bits, a text cannot be a file name, or the nesting or the number of values exceeds the limit.
    """
    waiting: list[tuple[str, Any, int]] = [("", value, 0)]
    seen = 0
    while waiting:
        path, item, depth = waiting.pop()
        seen += 1
        if depth > _DEEPEST or seen > _MOST:
            raise InputError(f"{where}: nested too deeply or repeated too often for a configuration: write it out")
        if isinstance(item, dict):
            _require_mapping(item, f"{where}: {path}" if path else where)
            waiting += [(f"{path}.{key}" if path else key, each, depth + 1) for key, each in item.items()]
        elif isinstance(item, list | tuple):
            waiting += [(path, each, depth + 1) for each in item]
        elif reason := _unfit(item):
            place = "" if where == f"--{path}" else f"{path or 'the whole file'}: "
            raise InputError(f"{where}: {place}{reason}")


def _require_mapping(found: dict[Any, Any], where: str) -> None:
    for key in found:
        if not isinstance(key, str) or not key or _unfit(key):
            raise InputError(
                f"{where}: the key {key!r:.60} is not a name: give a word, in quotes if YAML reads it as another type"
            )
    named = found.get("class_path", "a.b")
    if not isinstance(named, str) or not all(part.isidentifier() for part in named.split(".")):
        raise InputError(
            f"{where}: class_path {named!r:.60} is not a class: give its name, with dots for a class of another package"
        )
    beside = sorted(found.keys() - _OF_CLASSES) if found.keys() & _OF_CLASSES else []
    if beside:  # such a key would be ignored without a message
        raise InputError(f"{where}: {beside[0]!r} is next to class_path or init_args: move it into init_args")
    if not isinstance(found.get("init_args"), dict | None):
        raise InputError(f"{where}: init_args {found['init_args']!r:.60} is not a mapping: give names and values")


def _unfit(item: Any) -> str:
    if isinstance(item, int) and item not in _INTEGERS:
        return f"an integer of {item.bit_length()} bits: give one of at most 64"
    if isinstance(item, float) and abs(item) > _LARGEST and math.isfinite(item):
        return f"{item} is outside the range of 32-bit floats: give a number up to {_LARGEST}"
    if isinstance(item, str) and not is_text(item):
        return f"the text {item!r:.60} has characters that are not allowed in file names and pages: remove them"
    if isinstance(item, datetime.date):
        return f"YAML reads {item} as a date: quote it for a text, or give a number"
    if item is None or isinstance(item, int | float | str):
        return ""
    return f"{type(item).__name__} {item!r:.60}: quote it"


def is_text(word: str) -> bool:
    """Whether a word can be a file name and appear on a page: no zero byte, and no bytes that are invalid UTF-8."""
    return not any(each == "\0" or "\ud800" <= each <= "\udfff" for each in word)


def shipped_configuration(name: str) -> Path:
    """Path of a configuration file shipped with the package, such as ``demo.yaml`` or ``loss/dcl.yaml``.

    The file is inside the package in an installed wheel, and beside the package in a source checkout.

    Args:
        name: the file's path below the folder of configurations.
    """
    package = Path(str(files("contrast")))
    inside = package / "configs" / name
    return inside if inside.is_file() else package.parent / "configs" / name


Config = dict[str, Any]

SECTIONS = (
    *("seed_everything", "model", "data", "trainer"),
    *("metrics", "scores", "pairs", "online_knn", "bank", "checkpoints"),
)
"""Top-level sections of a configuration."""
_FLAGS = ("config", "run", "resume", "trust", "print_config", "resume-on-changed-data")  # these are not sections

# Classes that a flag extends if no file names a class: `--model.loss.objective DCL` over a method's own default.
_UNSAID: dict[tuple[str, ...], Config] = {
    ("model", "backbone"): {"class_path": "ResNet"},
    ("model", "loss"): {"class_path": "ContrastiveLoss", "init_args": {"objective": {"class_path": "InfoNCE"}}},
    ("model", "bank"): {"class_path": "KeyQueue"},
    ("model", "bank", "mining"): {"class_path": "Hardest"},
    ("model", "bank", "approximate"): {"class_path": "IVF"},
}


class Composition:
    """Merge of configuration files and flags.

    Attributes:
        config: the configuration merged so far.
        notes: one line for each class that replaced another class; it names the dropped arguments.
    """

    def __init__(self) -> None:
        self.config: Config = {}
        self.notes: list[str] = []

    def lay(self, over: Mapping[str, Any]) -> None:
        """Merge one file's mapping over the current configuration.

        Args:
            over: the file's content.
        """
        self.config = self._merge(self.config, dict(over), ())

    def set(self, flag: str, value: Any) -> None:
        """Set the value of one flag; the dotted name may pass through a class's arguments without ``init_args``.

        Args:
            flag: dotted name, for example ``model.loss.objective``.
            value: the parsed value.

        Raises:
            InputError: if a part of the name is empty.
        """
        over: Any = value
        names = flag.split(".")
        if not all(names):
            raise InputError(f"--{flag} is not a path of names: write it like --model.loss.objective")
        for depth in range(len(names) - 1, -1, -1):
            over = {names[depth]: over}
        self.config = self._merge(self.config, over, ())

    def _merge(self, base: Any, over: Any, path: tuple[str, ...]) -> Any:
        if base is None and isinstance(over, dict) and "class_path" not in over:
            base = _UNSAID.get(path)
        if isinstance(base, str) and isinstance(over, dict):
            base = {"class_path": base}
        if _names_class(base):
            return self._merge_class(base, over, path)
        if not (isinstance(base, dict) and isinstance(over, dict)):
            return over
        return self._merge_keys(base, over, path)

    def _merge_keys(self, base: Config, over: Config, path: tuple[str, ...]) -> Config:
        merged = dict(base)
        for key, value in over.items():
            if key.endswith("+"):  # --model.loss.transforms+=NAME appends to the list
                target = key[:-1] if key[:-1] in merged else key  # the parser appends to the class's default
                merged[target] = [*_items(merged.get(target)), *_items(value)]
            else:
                merged.pop(f"{key}+", None)
                merged[key] = self._merge(base.get(key), value, (*path, key))
        return merged

    def _merge_class(self, base: Config, over: Any, path: tuple[str, ...]) -> Any:
        if isinstance(over, str):
            over = {"class_path": over}
        if not isinstance(over, dict):
            return over
        if not {"class_path", "init_args"} & over.keys():
            over = {"init_args": over}
        arguments = base.get("init_args") or {}
        named = over.get("class_path", base["class_path"])
        if not same_class(named, base["class_path"]):
            if arguments:
                before, after = short(base["class_path"]), short(named)
                if before == after:  # two classes of one name: only their dotted paths tell them apart
                    before, after = base["class_path"], named
                self.notes.append(
                    f"{'.'.join(path)}: {before} -> {after}, which starts from its own defaults "
                    f"(dropped: {', '.join(sorted(arguments))})"
                )
            arguments = {}
        merged = self._merge_keys(arguments, over.get("init_args") or {}, path)
        return {"class_path": named, "init_args": merged} if merged else {"class_path": named}


def compose(
    files: Sequence[Path], flags: Sequence[tuple[str, str]], base: Mapping[str, Any] | None = None
) -> Composition:
    """Merge configuration files in order, then flags from the shortest path to the longest.

    Args:
        files: YAML files. In the ``config.yaml`` of a run folder, a missing key has the default from the time when the
            file was written.
        flags: pairs of name and text as given, for example ``("model.loss.objective", "DCL")``.
        base: configuration that the first file overrides; None starts with an empty one.

    Raises:
        InputError: if a file is missing or not a mapping, or a value is not YAML.
    """
    from contrast.commands.stored_defaults import with_stored_defaults  # it imports this module

    composition = Composition()
    if base is not None:
        composition.lay(base)
    for file in files:
        content = read_yaml(file)
        require_plain(content, repr(str(file)))
        composition.lay(with_stored_defaults(content) if _is_of_a_run(file) else content)
    for name, text in sorted(flags, key=lambda flag: flag[0].count(".")):
        composition.set(name, _value(name, text))
    return composition


def _is_of_a_run(file: Path) -> bool:
    folder = RunFolder(file.parent)
    return file.name == folder.config.name and any(
        each.exists() for each in (folder.status, folder.metrics, folder.checkpoints)
    )


def read_yaml(file: Path) -> dict[Any, Any]:
    """Read one YAML file as a mapping, with keys of any type: `require_plain` checks that they are names.

    Args:
        file: the YAML file.

    Raises:
        InputError: if the file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        if file.exists() and not file.is_file() and not file.is_dir():  # a pipe or a device may be endless
            raise InputError(f"cannot read configuration {str(file)!r}: it is not a regular file")
        if file.is_file() and file.stat().st_size > MOST_BYTES:
            raise InputError(f"cannot read configuration {str(file)!r}: it has {file.stat().st_size:,} bytes")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read configuration {str(file)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{str(file)!r}: not YAML: it is not UTF-8 text") from error
    try:
        content = parse_yaml(text)
    except InputError as error:
        raise InputError(f"{str(file)!r}: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{str(file)!r} is not a configuration: it holds no mapping of names to values")
    return content


def require_section(path: str, of_flag: bool) -> None:
    """Refuse a setting whose first name is not a section.

    Args:
        path: dotted name, for example ``model.loss``.
        of_flag: whether the name was given as a flag. If so, it may be a misspelt option of the command itself.

    Raises:
        InputError: one line that suggests the most similar name.
    """
    name = path.partition(".")[0]
    if name in SECTIONS:
        return
    if not of_flag:
        raise InputError(f"no section {name!r}{did_you_mean(name, SECTIONS)}")
    hint = did_you_mean(name, (*SECTIONS, *(() if "." in path else _FLAGS)))
    guess = re.match(r"; did you mean '([^']+)'", hint)
    raise InputError(f"--{path}: no flag or section {name!r}{f'; did you mean --{guess[1]}?' if guess else hint}")


def same_class(one: str, other: str) -> bool:
    """Whether two class names may mean the same class; a short name is the last part of a dotted name."""
    if "." in one and "." in other:
        return one == other or (one.split(".")[0] == other.split(".")[0] == "contrast" and short(one) == short(other))
    return short(one) == short(other)


def short(class_path: str) -> str:
    """Last part of a dotted class name."""
    return class_path.rpartition(".")[2]


def _items(value: Any) -> list[Any]:
    """The elements of a list; a single value is a list of one, and None an empty list."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _names_class(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("class_path"), str)


def _value(name: str, text: str) -> Any:
    try:
        value = parse_yaml(text)
    except InputError as error:
        raise InputError(f"--{name}: {text!r:.200} is not a YAML value ({error})") from error
    require_plain({name.rpartition(".")[2] or name: value}, f"--{name}")
    return value
