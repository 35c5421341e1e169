"""Grid of a comparison: rows x columns x seeds, each cell one run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from contrast.errors import InputError, did_you_mean

__all__ = ["Cell", "Evaluation", "Grid", "Overlay", "fingerprint", "parse_grid"]

_MOST_CELLS = 10_000


@dataclass(frozen=True)
class Overlay:
    """Configuration files and flags, as `contrast pretrain` takes them.

    Attributes:
        files: configuration files, later over earlier.
        flags: pairs of a dotted setting name and its value as text.
    """

    files: tuple[Path, ...] = ()
    flags: tuple[tuple[str, str], ...] = ()

    def __add__(self, later: Overlay) -> Overlay:
        return Overlay(self.files + later.files, self.flags + later.flags)

    def words(self) -> list[str]:
        """The overlay as words of a command line."""
        files = [word for file in self.files for word in ("--config", str(file))]
        return files + [f"--{name}={text}" for name, text in self.flags]


@dataclass(frozen=True)
class Evaluation:
    """Evaluations of a trained cell besides the linear probe on all labels.

    Attributes:
        per_class: labels per class of the few-label probe.
        neighbours: k of the kNN.
        splits: number of choices of the few labels; every cell gets the same choices.
    """

    per_class: int = 10
    neighbours: int = 20
    splits: int = 5


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        row: name of the row.
        column: name of the column; None if the grid has no columns.
        seed: seed of the run.
        overlay: configuration of the run.
        folder: run folder.
    """

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
        # Beside the folder, because a run starts in an empty folder.
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def cost(self) -> Path:
        """File of the cost of the loss, which all seeds share."""
        return self.folder.with_name("cost.json")


@dataclass(frozen=True)
class Grid:
    """Rows x columns x seeds over common settings.

    Attributes:
        name: name of the file without its ending.
        common: settings that all cells share.
        seeds: one run each.
        baseline: the row that the other rows are compared with, seed by seed.
        against: for rows that are compared with another row than the baseline, the name of that row.
        rows: overlays by name.
        columns: overlays by name; a grid without columns has the one column None.
        axis: meaning of the columns, for tables and figures.
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
        """The row that this row is compared with; None for the baseline."""
        return self.against.get(row, None if row == self.baseline else self.baseline)

    def cells(self, out: Path) -> list[Cell]:
        """All cells, seed by seed, so that an early table has every row.

        Args:
            out: folder of the cells.
        """
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


def fingerprint(config: Mapping[str, Any]) -> str:
    """Key of a resolved configuration: equal for equal configurations.

    An empty list of observers is left out, so that cells of versions without this setting keep their keys.
    """
    scores = config.get("scores")
    if isinstance(scores, Mapping) and scores.get("observers") == []:
        config = {**config, "scores": {name: value for name, value in scores.items() if name != "observers"}}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def parse_grid(said: Mapping[Any, Any], file: Path, find: Callable[[Path], Path] = Path) -> Grid:
    """Parse the content of a grid's YAML file.

    Args:
        said: content of the file.
        file: path of the file, for its name and for messages.
        find: function of a configuration's path in the grid that returns the path to read.

    Raises:
        InputError: one line, if a key or a value is missing, unknown or of another kind.
    """
    _known(str(file), said, ("common", "seeds", "baseline", "rows", "columns", "axis", "evaluate"))
    against = _against(said.get("rows"))
    rows = _overlays("rows", said.get("rows"), find, ("files", "flags", "against"))
    columns = dict[str | None, Overlay](_overlays("columns", said.get("columns"), find).items())
    if not rows:
        raise InputError(f"{str(file)!r} has no rows: name at least one configuration under `rows:`")
    baseline = str(said.get("baseline", next(iter(rows))))
    if baseline not in rows:
        raise InputError(f"baseline {baseline!r} is not a row{did_you_mean(baseline, rows)}")
    seeds = _seeds(said.get("seeds", [0, 1, 2]))
    if (count := len(rows) * max(1, len(columns)) * len(seeds)) > _MOST_CELLS:
        raise InputError(f"{str(file)!r} has {count:,} cells: give at most {_MOST_CELLS:,}")
    return Grid(
        name=file.stem,
        common=_overlay("common", said.get("common"), find),
        seeds=seeds,
        baseline=baseline,
        against=against,
        rows=rows,
        columns=columns or {None: Overlay()},
        axis=str(said.get("axis", "column")),
        evaluation=_evaluation(said.get("evaluate") or {}),
    )


def _known(where: str, said: Any, names: tuple[str, ...]) -> None:
    if not isinstance(said, Mapping):
        raise InputError(f"{where} is {said!r:.60}: write a mapping of {', '.join(names)}")
    for name in said:
        if name not in names:
            raise InputError(f"{where}: no key {name!r}{did_you_mean(str(name), names)}")


def _against(rows: Any) -> dict[str, str]:
    pairs = rows.items() if isinstance(rows, dict) else ()
    found = {str(name): str(row["against"]) for name, row in pairs if isinstance(row, dict) and "against" in row}
    names = [str(name) for name, _ in pairs]
    for name, base in found.items():
        if base not in names or base == name:
            raise InputError(f"rows, {name}: against {base!r}, which is not another row{did_you_mean(base, names)}")
    return found


def _overlays(
    where: str, said: Any, find: Callable[[Path], Path], keys: tuple[str, ...] = ("files", "flags")
) -> dict[str, Overlay]:
    if not isinstance(said or {}, dict):
        raise InputError(f"{where} is {said!r:.60}: write a mapping of names to overlays")
    found: dict[str, Overlay] = {}
    for key, overlay in (said or {}).items():
        name = str(key)
        if name in found:
            raise InputError(f"{where}: {name!r} is there twice, once as a number: give each its own name")
        if not _names_a_folder(name):
            raise InputError(
                f"{where}: {name!r:.60} cannot name a folder: leave out slashes, control characters, a leading dot and "
                "outer blanks"
            )
        found[name] = _overlay(f"{where}, {name}", overlay, find, keys)
    return found


def _names_a_folder(name: str) -> bool:
    return bool(name) and "/" not in name and name[0] != "." and name == name.strip() and name.isprintable()


def _overlay(
    where: str, said: Any, find: Callable[[Path], Path], keys: tuple[str, ...] = ("files", "flags")
) -> Overlay:
    if said is None:
        return Overlay()
    _known(where, said, keys)
    files, flags = said.get("files") or [], said.get("flags") or {}
    if not isinstance(files, list) or not isinstance(flags, dict) or not all(isinstance(each, str) for each in files):
        raise InputError(f"{where}: files are a list of paths, flags a mapping of dotted names to values")
    return Overlay(
        tuple(find(Path(each)) for each in files), tuple((str(name), _text(value)) for name, value in flags.items())
    )


def _text(value: Any) -> str:
    """A value as text of a command line; not as JSON, because YAML reads JSON's 1e-05 as text."""
    line: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return line.removesuffix("...\n").strip()


def _seeds(said: Any) -> tuple[int, ...]:
    if not isinstance(said, list) or not said or any(type(seed) is not int or seed < 0 for seed in said):
        raise InputError(f"seeds {said!r:.60}: give a list of whole numbers from 0, say [0, 1, 2]")
    if len(set(said)) < len(said):
        raise InputError(f"seeds {said!r:.60}: one of them is there twice")
    return tuple(said)


def _evaluation(said: Any) -> Evaluation:
    _known("evaluate", said, tuple(asdict(Evaluation())))
    for name, value in said.items():
        if type(value) is not int or value < 1:
            raise InputError(f"evaluate.{name} {value!r:.60}: give a whole number from 1")
    return Evaluation(**said)
