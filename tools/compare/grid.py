"""A grid as its YAML file says it: rows x columns x seeds, each cell one run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from contrast.commands.configuration import compose, read_yaml
from contrast.errors import InputError, did_you_mean

__all__ = ["Cell", "Evaluation", "Grid", "Overlay", "fingerprint", "read_grid", "resolved"]


@dataclass(frozen=True)
class Overlay:
    """Configuration files and flags, as `contrast pretrain` takes them."""

    files: tuple[Path, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()

    def __add__(self, later: Overlay) -> Overlay:
        return Overlay(self.files + later.files, self.flags + later.flags)

    def words(self) -> list[str]:
        """As they stand on the command line."""
        files = [word for file in self.files for word in ("--config", str(file))]
        return files + [f"--{name}={text}" for name, text in self.flags]


@dataclass(frozen=True)
class Evaluation:
    """What is measured of each trained cell besides the linear probe on all labels.

    Args:
        per_class: labels a class of the few-label probe.
        neighbours: k of the kNN.
        splits: choices of the few labels; the same ones in every cell.
    """

    per_class: int = 10
    neighbours: int = 20
    splits: int = 5


@dataclass(frozen=True)
class Cell:
    """One run: a row, a column (None where the grid has none), a seed, and where it is kept."""

    row: str
    column: str | None
    seed: int
    overlay: Overlay
    folder: Path

    @property
    def name(self) -> str:
        return " / ".join(part for part in (self.row, self.column, f"seed {self.seed}") if part is not None)

    @property
    def result(self) -> Path:
        return self.folder / "cell.json"

    @property
    def log(self) -> Path:
        # Beside the folder: a run starts in an empty one.
        return self.folder.with_name(f"{self.folder.name}.log")


@dataclass(frozen=True)
class Grid:
    """Rows x columns x seeds over what all have in common.

    Args:
        name: of the file, without its ending.
        common: what every cell is laid over.
        seeds: one run each.
        baseline: the row that the others are compared with, seed by seed.
        against: of rows that are compared with another one than that, which.
        rows, columns: overlays by their names; a grid without columns has the one column None.
        axis: what the columns are, for tables and figures.
        evaluation: what is measured.
    """

    name: str
    common: Overlay
    seeds: tuple[int, ...]
    baseline: str
    against: Mapping[str, str]
    rows: Mapping[str, Overlay]
    columns: Mapping[str | None, Overlay]
    axis: str
    evaluation: Evaluation

    def base(self, row: str) -> str | None:
        """The row that this one is compared with; None for the baseline."""
        return self.against.get(row, None if row == self.baseline else self.baseline)

    def cells(self, out: Path) -> list[Cell]:
        """All cells, seed by seed, so that an early table has every row."""
        return [
            Cell(
                row,
                column,
                seed,
                self.common + self.rows[row] + self.columns[column] + Overlay(flags=(("seed_everything", str(seed)),)),
                out.joinpath(row, *([] if column is None else [column]), f"seed-{seed}"),
            )
            for seed in self.seeds
            for column in self.columns
            for row in self.rows
        ]


def resolved(cell: Cell) -> dict[str, Any]:
    """The cell's configuration with every default written out, as its run will keep it.

    Raises:
        InputError: one line, for a configuration that does not fit; it names the cell.
    """
    from contrast.commands import building as parser  # imports torch and Lightning: seconds
    from contrast.commands.completing import complete

    parser.import_from_here()
    try:
        config = compose(cell.overlay.files, cell.overlay.flags).config
        _, plain = parser.resolve(parser.run_parser(), complete(config))
    except InputError as error:
        raise InputError(f"{cell.name}: {error}") from error
    return plain


def fingerprint(config: Mapping[str, Any]) -> str:
    """A key of a resolved configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def read_grid(file: Path) -> Grid:
    """A grid from its YAML file.

    Raises:
        InputError: one line, for what is missing, unknown or misspelt.
    """
    said = read_yaml(file)
    _known(str(file), said, ("common", "seeds", "baseline", "rows", "columns", "axis", "evaluate"))
    against = _against(said.get("rows"))
    rows = _overlays("rows", said.get("rows"), ("files", "flags", "against"))
    columns = dict[str | None, Overlay](_overlays("columns", said.get("columns")).items())
    if not rows:
        raise InputError(f"{str(file)!r} has no rows: name at least one configuration under `rows:`")
    baseline = str(said.get("baseline", next(iter(rows))))
    if baseline not in rows:
        raise InputError(f"baseline {baseline!r} is no row{did_you_mean(baseline, rows)}")
    return Grid(
        name=file.stem,
        common=_overlay("common", said.get("common")),
        seeds=_seeds(said.get("seeds", [0, 1, 2])),
        baseline=baseline,
        against=against,
        rows=rows,
        columns=columns or {None: Overlay()},
        axis=str(said.get("axis", "column")),
        evaluation=_evaluation(said.get("evaluate") or {}),
    )


def _known(where: str, said: Any, names: tuple[str, ...]) -> None:
    if not isinstance(said, dict):
        raise InputError(f"{where} is {said!r}: write a mapping of {', '.join(names)}")
    for name in said:
        if name not in names:
            raise InputError(f"{where}: no key {name!r}{did_you_mean(str(name), names)}")


def _against(rows: Any) -> dict[str, str]:
    pairs = rows.items() if isinstance(rows, dict) else ()
    found = {str(name): str(row["against"]) for name, row in pairs if isinstance(row, dict) and "against" in row}
    names = [str(name) for name, _ in pairs]
    for name, base in found.items():
        if base not in names or base == name:
            raise InputError(f"rows, {name}: against {base!r}, which is no other row{did_you_mean(base, names)}")
    return found


def _overlays(where: str, said: Any, keys: tuple[str, ...] = ("files", "flags")) -> dict[str, Overlay]:
    if not isinstance(said or {}, dict):
        raise InputError(f"{where} is {said!r}: write a mapping of names to overlays")
    found = {str(name): _overlay(f"{where}, {name}", overlay, keys) for name, overlay in (said or {}).items()}
    for name in found:  # each is a folder's name
        if "/" in name or name.startswith(".") or name != name.strip() or not name:
            raise InputError(
                f"{where}: {name!r} cannot name a folder: leave out slashes, a leading dot and outer blanks"
            )
    return found


def _overlay(where: str, said: Any, keys: tuple[str, ...] = ("files", "flags")) -> Overlay:
    if said is None:
        return Overlay()
    _known(where, said, keys)
    files, flags = said.get("files") or [], said.get("flags") or {}
    if not isinstance(files, list) or not isinstance(flags, dict):
        raise InputError(f"{where}: files are a list of paths, flags a mapping of dotted names to values")
    return Overlay(tuple(map(Path, files)), tuple((str(name), _text(value)) for name, value in flags.items()))


def _text(value: Any) -> str:
    """The value as it would stand on a command line; not as JSON, whose 1e-05 is a text in YAML."""
    line: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return line.removesuffix("...\n").strip()


def _seeds(said: Any) -> tuple[int, ...]:
    if not isinstance(said, list) or not said or any(type(seed) is not int or seed < 0 for seed in said):
        raise InputError(f"seeds {said!r}: give a list of whole numbers from 0, say [0, 1, 2]")
    if len(set(said)) < len(said):
        raise InputError(f"seeds {said!r}: one of them is there twice")
    return tuple(said)


def _evaluation(said: Any) -> Evaluation:
    _known("evaluate", said, tuple(asdict(Evaluation())))
    for name, value in said.items():
        if type(value) is not int or value < 1:
            raise InputError(f"evaluate.{name} {value!r}: give a whole number from 1")
    return Evaluation(**said)
