"""Ways to damage a file that was good, or to put something else in its place."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

__all__ = ["WAYS", "damage", "ways"]


def _cut(file: Path, numbers: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: numbers.randrange(len(content) + 1)])


def _cut_at_the_end(file: Path, numbers: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: -numbers.randint(1, 20)])


def _flipped(file: Path, numbers: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(numbers.choice([1, 1, 4, 40])):
        if content:
            content[numbers.randrange(len(content))] ^= 1 << numbers.randrange(8)
    file.write_bytes(content)


def _head_flipped(file: Path, numbers: random.Random) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(numbers.choice([1, 3])):
        if content:
            content[numbers.randrange(min(64, len(content)))] = numbers.randrange(256)
    file.write_bytes(content)


def _zeroed(file: Path, numbers: random.Random) -> None:
    content = bytearray(file.read_bytes())
    start = numbers.randrange(len(content) + 1)
    content[start : start + 200] = bytes(len(content[start : start + 200]))
    file.write_bytes(content)


def _hole(file: Path, numbers: random.Random) -> None:
    content = file.read_bytes()
    start = numbers.randrange(len(content) + 1)
    file.write_bytes(content[:start] + content[start + numbers.randint(1, 100) :])


def _random_bytes(file: Path, numbers: random.Random) -> None:
    file.write_bytes(numbers.randbytes(numbers.choice([1, 100, 5000])))


def _twice(file: Path, numbers: random.Random) -> None:
    file.write_bytes(file.read_bytes() * 2)


def _empty(file: Path, numbers: random.Random) -> None:
    file.write_bytes(b"")


def _gone(file: Path, numbers: random.Random) -> None:
    file.unlink()


def _replaced(make: Callable[[Path], object]) -> Callable[[Path, random.Random], None]:
    def replace(file: Path, numbers: random.Random) -> None:
        file.unlink()
        make(file)

    return replace


def _folder(file: Path) -> None:
    file.mkdir()
    (file / "inside").write_text("x")


WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    "cut": _cut,
    "cut at the end": _cut_at_the_end,
    "bits flipped": _flipped,
    "head changed": _head_flipped,
    "zeroes within": _zeroed,
    "a hole": _hole,
    "random bytes": _random_bytes,
    "twice": _twice,
    "empty": _empty,
    "gone": _gone,
    "a folder": _replaced(_folder),
    "a link to nowhere": _replaced(lambda file: file.symlink_to("nowhere")),
    "a link to itself": _replaced(lambda file: file.symlink_to(file.name)),
    "a pipe": _replaced(lambda file: os.mkfifo(file)),
    "/dev/zero": _replaced(lambda file: file.symlink_to("/dev/zero")),
    "/dev/null": _replaced(lambda file: file.symlink_to("/dev/null")),
}


def ways() -> st.SearchStrategy[tuple[str, int]]:
    """A way by its name, and the seed of what is random in it."""
    return st.tuples(st.sampled_from(["cut", "bits flipped", "head changed", *WAYS]), st.integers(0, 10**6))


def damage(file: Path, way: str, seed: int) -> None:
    """Damage one file."""
    WAYS[way](file, random.Random(seed))
