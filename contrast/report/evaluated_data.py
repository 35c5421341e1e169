"""The data of an evaluation in words: paths, counts and checksums, out of its protocol."""

from __future__ import annotations

from typing import Any

__all__ = ["data_in_words", "set_in_words", "short_protocol"]

_MOST_CLASSES = 8


def data_in_words(protocol: dict[str, Any]) -> list[str]:
    """One line for each set of a protocol: path, class of the data set, samples, class names and checksum.

    Empty for a protocol that names no data, as those of earlier versions.

    Example:
        >>> data_in_words({"data": {"test": {"set": "x.ImageFolder", "path": "p", "samples": 3, "contents": "1a2b"}}})
        ['test: p (ImageFolder), 3 samples, checksum 1a2b']
    """
    data = protocol.get("data")
    sets = data.items() if isinstance(data, dict) else []
    return [set_in_words(name, each) for name, each in sets if isinstance(each, dict)]


def set_in_words(name: str, described: dict[str, Any]) -> str:
    """One set, as `TrainingData.describe` gives it; what it lacks is left out."""
    kind, path = str(described.get("set") or "").rpartition(".")[2], described.get("path")
    where = f"{path} ({kind})" if path and kind else str(path or kind)
    classes = [str(each) for each in described["classes"]] if isinstance(described.get("classes"), list) else []
    shown = f" of {len(classes)} classes ({_some(classes)})" if classes else ""
    count, checksum = described.get("samples"), described.get("contents")
    said = [
        where,
        f"{count:,} samples{shown}" if isinstance(count, int) else "",
        f"checksum {checksum[:8]}" if isinstance(checksum, str) else "",
    ]
    return f"{name}: {', '.join(filter(None, said))}"


def short_protocol(protocol: dict[str, Any]) -> dict[str, Any]:
    """The protocol with each set's classes as one text, for a table of settings."""
    data = protocol.get("data")
    if not isinstance(data, dict):
        return protocol
    return {**protocol, "data": {name: _with_classes_as_text(each) for name, each in data.items()}}


def _with_classes_as_text(described: Any) -> Any:
    if not isinstance(described, dict) or not isinstance(described.get("classes"), list):
        return described
    return {**described, "classes": _some([str(each) for each in described["classes"]])}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_CLASSES} more" if len(names) > _MOST_CLASSES else ""
    return ", ".join(names[:_MOST_CLASSES]) + more
