"""State of a comparison's cells: which are finished with the present configuration, data and evaluation.

A finished cell is used again only if its run had the configuration that the grid states now, if the training data are
those that it was trained on, and if it was evaluated on the present test data with the present settings.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import lightning

from contrast.commands import building
from contrast.commands.completing import complete
from contrast.commands.configuration import Config, compose, read_yaml, short
from contrast.commands.stored_defaults import with_chosen_stem, with_stored_defaults
from contrast.commands.trust import receive
from contrast.compare.cells import read_cell
from contrast.compare.grid import Cell, Evaluation, fingerprint
from contrast.data.identity import DataIdentity, identity_of, root_of
from contrast.errors import InputError
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint

__all__ = ["Data", "data_of", "described_identity", "needs_trust", "resolved", "same_configuration", "unfinished"]

_NOT_OF_THE_SETS = ("batch_size", "workers", "views")  # arguments of a data module that change none of its samples


@dataclass(frozen=True)
class Data:
    """Identity of the data that a configuration names.

    Attributes:
        train: identity of the training set.
        test: identity of the test set; None if there is none.
        root: folder or file of the training set; None for data in memory.
    """

    train: DataIdentity
    test: DataIdentity | None
    root: str | None


def resolved(cell: Cell) -> Config:
    """Resolve the configuration of a cell: every default is written out, as the run folder keeps it.

    Args:
        cell: the cell.

    Raises:
        InputError: one line that names the cell, if the configuration does not fit.
    """
    building.import_from_here()
    try:
        return _resolved(compose(cell.overlay.files, cell.overlay.flags).config)
    except InputError as error:
        raise InputError(f"{cell.name}: {error}") from error


@functools.cache
def _run_parser() -> jsonargparse.ArgumentParser:
    return building.run_parser()


def _resolved(config: Config) -> Config:
    _, plain = building.resolve(_run_parser(), complete(config))
    return with_chosen_stem(plain)[0]


def unfinished(cells: Sequence[Cell], configs: Mapping[Cell, Config], evaluation: Evaluation) -> list[Cell]:
    """Find the cells that still have to be trained or evaluated.

    A trained cell is not trained again if only its evaluation or its test data differ.

    Args:
        cells: all cells of the grid.
        configs: resolved configurations of the cells.
        evaluation: what is measured.

    Raises:
        InputError: if a cell was trained with another configuration or on other data.
    """
    left = []
    known: dict[str, Data | None] = {}
    for cell in cells:
        folder, done = RunFolder(cell.folder), read_cell(cell)
        if done is None and not folder.last_checkpoint.is_file():
            left.append(cell)
            continue
        same = done is not None and done["configuration"] == fingerprint(configs[cell])
        if not same and not same_configuration(folder.config, configs[cell]):
            raise InputError(
                f"{cell.name} was trained with another configuration: delete {str(cell.folder)!r} or give another --out"
            )
        data = data_of(configs[cell], known)
        _require_same_training_data(cell, folder, done, data)
        evaluated = done is not None and done["evaluate"] == asdict(evaluation)
        now = None if data is None else data.test
        if done is None or not evaluated or _differs(described_identity(done["data"]["test"]), now):
            left.append(cell)
    return left


def same_configuration(file: Path, wanted: Config) -> bool:
    """Whether the ``config.yaml`` of a run folder is the wanted configuration.

    The file may be from an earlier version, which wrote fewer arguments: they have the defaults of that version. A mean
    and a standard deviation that the run measured itself are not a difference.

    Args:
        file: ``config.yaml`` of the run folder.
        wanted: the resolved configuration of the cell.
    """
    if not file.is_file():
        return False
    stored = read_yaml(file)
    if stored == _with_measured(wanted, stored):
        return True
    try:
        # The file may name classes that the grid does not name: only classes on the allow list are imported.
        now = _resolved(receive(with_stored_defaults(stored), repr(str(file))))
        return now == _with_measured(_resolved(receive(wanted, "the grid")), now)
    except InputError:
        return False


def _with_measured(wanted: Config, stored: Mapping[Any, Any]) -> Config:
    """The wanted configuration with the stored mean and std where it gives neither."""
    data, kept = wanted.get("data"), stored.get("data")
    if not isinstance(data, dict) or not isinstance(kept, dict):
        return wanted
    given, before = data.get("init_args") or {}, kept.get("init_args")
    if not isinstance(before, dict) or short(str(data.get("class_path"))) != short(str(kept.get("class_path"))):
        return wanted
    if any(given.get(name, 0) is not None for name in ("mean", "std")):
        return wanted
    scale = {name: before.get(name) for name in ("mean", "std")}
    return {**wanted, "data": {**data, "init_args": {**given, **scale}}}


def needs_trust(config: Config) -> bool:
    """Whether a run of this configuration can only be resumed with ``--trust``.

    Without it, `contrast pretrain --resume` refuses classes that are not on its allow list, and downloads nothing.

    Args:
        config: the resolved configuration of the cell, which the user's own grid states.
    """
    try:
        receive(config, "the grid")
    except InputError:
        return True
    return _downloads(config)


def _downloads(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value.get("download")) or any(_downloads(each) for each in value.values())
    return isinstance(value, list) and any(_downloads(each) for each in value)


def data_of(config: Config, known: dict[str, Data | None]) -> Data | None:
    """Identify the data of a configuration; data sets that differ in nothing are built once.

    Args:
        config: a resolved configuration.
        known: results of earlier calls; it gets this one.

    Returns:
        The identities; None, with a note on standard error, if the data are not there. Results that were measured
        elsewhere can then still be laid out as a table.
    """
    section = config["data"]
    arguments = {name: value for name, value in section["init_args"].items() if name not in _NOT_OF_THE_SETS}
    key = fingerprint({"class_path": section["class_path"], "init_args": arguments})
    if key not in known:
        try:
            known[key] = _identified(config)
        except InputError as error:
            print(f"note    finished cells are not compared with their data: {error}", file=sys.stderr)
            known[key] = None
    return known[key]


def _identified(config: Config) -> Data:
    parser = building.evaluation_parser(with_model=False)
    typed, _ = building.resolve(parser, {name: config[name] for name in ("seed_everything", "data")})
    lightning.seed_everything(config["seed_everything"], verbose=False)
    data = building.build(parser, typed).data
    test = None if data.test_set is None else identity_of(data.test_set, thorough=False)
    return Data(data.identity, test, root_of(data.train_set.source))


def described_identity(description: Any) -> DataIdentity | None:
    """Identity of a data set from its description in a result file; None if the description has none."""
    if not isinstance(description, dict):
        return None
    return DataIdentity.from_state({**description, "name_keys": None})


def _require_same_training_data(
    cell: Cell, folder: RunFolder, done: Mapping[str, Any] | None, data: Data | None
) -> None:
    if data is None:
        return
    if done is None:
        before = DataIdentity.from_state(read_checkpoint(folder.last_checkpoint)["contrast"].get("data"))
    else:  # earlier versions kept only the description of the training set at the evaluation
        before = described_identity(done.get("trained_on") or done["data"]["train"])
    difference = None if before is None else before.difference(data.train)
    if difference is not None:
        where = f" in {data.root!r}" if data.root else ""
        raise InputError(
            f"{cell.name} was trained on other data than those{where} now ({difference}): put the data back, delete "
            f"{str(cell.folder)!r}, or give another --out"
        )


def _differs(before: DataIdentity | None, now: DataIdentity | None) -> bool:
    return before is not None and now is not None and before.difference(now) is not None
