"""Detect changed training data at a resume, and renumber per-sample state to match the new data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from contrast.callbacks import PairRecorder
from contrast.callbacks.pair_history import move_histories, moved_state
from contrast.commands.resuming import is_first_process
from contrast.data import TrainingData
from contrast.data.identity import DataIdentity, Matching, appended, identity_of, match_samples, root_of
from contrast.errors import InputError
from contrast.run_folder import RunFolder
from contrast.runs.checkpoint import read_checkpoint

__all__ = ["ChangedData", "changed_data"]

_PAIRS = PairRecorder.__qualname__  # Lightning's key of this callback's state in a checkpoint


@runtime_checkable
class _MovesSamples(Protocol):
    """A module whose state refers to samples by their numbers."""

    def move_samples(self, state: dict[str, Any], prefix: str, old_of: Tensor, new_of: Tensor) -> None: ...


@runtime_checkable
class _CountsSamples(Protocol):
    """A module whose state has one entry per sample."""

    def samples_in(self, state: dict[str, Any], prefix: str) -> int | None: ...


@dataclass(frozen=True, eq=False)
class ChangedData:
    """Mapping from the samples of a checkpoint's training data to the samples of the current training data.

    Attributes:
        matching: which samples are the same.
        before: what sample numbers refer to in the checkpoint.
        after: what sample numbers refer to now.
        model: the method whose state is renumbered.
    """

    matching: Matching
    before: str
    after: str
    model: nn.Module

    def move(self, content: dict[str, Any]) -> None:
        """Renumber the per-sample state in a checkpoint's content, in place, to match the current data.

        State of a new sample starts as never seen; state of a removed sample is dropped.

        Args:
            content: the checkpoint's content.
        """
        state = content["state_dict"]
        for prefix, module in _by_prefix(self.model):
            if isinstance(module, _MovesSamples):
                module.move_samples(state, prefix, self.matching.old_of, self.matching.new_of)
        pairs = content.get("callbacks", {}).get(_PAIRS)
        if pairs:
            content["callbacks"][_PAIRS] = moved_state(pairs, self.matching.old_of)

    def move_records(self, folder: RunFolder) -> None:
        """Renumber the samples in the run folder's files of pairs to match the current data.

        Args:
            folder: the run folder.
        """
        if is_first_process():
            count = len(self.matching.new_of)
            move_histories(folder.pairs, self.matching.old_of, count, self.before, self.after)


def changed_data(checkpoint: Path, model: nn.Module, data: TrainingData, allowed: bool) -> ChangedData | None:
    """Compare the current training data with the data of a checkpoint.

    Args:
        checkpoint: the checkpoint that the run resumes from.
        model: the method, built for the current data.
        data: the current data.
        allowed: whether the user accepts data that differ from the checkpoint's.

    Returns:
        How the samples moved; None if the training data are the same, or if the checkpoint does not identify its data.

    Raises:
        InputError: if the data differ and `allowed` is False, if their samples cannot be matched, or if the checkpoint
            does not identify its data and has another number of samples.
    """
    content = read_checkpoint(checkpoint)
    old, new = DataIdentity.from_state(content["contrast"].get("data")), data.identity
    if old is None:
        _refuse_other_sizes(content, model, data, checkpoint)
        return None
    difference = old.difference(new)
    if difference is None:
        return None
    where = root_of(data.train_set.source)
    problem = f"the training data{f' in {where!r}' if where else ''} differ from the checkpoint's ({difference})"
    if not allowed:
        raise InputError(f"{problem}: restore the old data, or accept the new data with --resume-on-changed-data")
    matching = _matched(old, new, data, problem)
    if is_first_process():
        print(f"note    {problem}: {_counts(matching)}{_of_the_epoch(content)}", file=sys.stderr)
    return ChangedData(matching, old.numbering, new.numbering, model)


def _matched(old: DataIdentity, new: DataIdentity, data: TrainingData, problem: str) -> Matching:
    matching = match_samples(old, new)
    if matching is None and old.contents is not None and new.samples >= old.samples:
        # Without names, a sample is identified by its number. This requires that all old samples kept their numbers.
        before = identity_of(data.train_set, thorough=False, first=old.samples)
        matching = appended(old.samples, new.samples) if before.contents == old.contents else None
    if matching is None:
        raise InputError(
            f"{problem}, and the samples cannot be matched: files need unique names, and arrays may only have samples "
            "appended: restore the old data, or start a new run"
        )
    if not bool((matching.old_of >= 0).any()):
        raise InputError(
            f"{problem}, and the old and new data have no sample name in common: start a new run on these data"
        )
    return matching


def _counts(matching: Matching) -> str:
    matched = int((matching.old_of >= 0).sum())
    new, removed = len(matching.old_of) - matched, len(matching.new_of) - matched
    return f"{matched:,} samples matched, {new:,} new, {removed:,} removed"


def _of_the_epoch(content: dict[str, Any]) -> str:
    """For a checkpoint within an epoch: note on how the rest of the epoch is trained; otherwise empty."""
    epochs = content["contrast"].get("epochs")
    within = isinstance(epochs, int) and content["epoch"] >= epochs
    return (
        f"; the rest of epoch {content['epoch']} follows the new data's order, so some samples may repeat"
        if within
        else ""
    )


def _refuse_other_sizes(content: dict[str, Any], model: nn.Module, data: TrainingData, checkpoint: Path) -> None:
    """For a checkpoint that does not identify its training data: check that its state fits the number of samples."""
    counts = [
        module.samples_in(content["state_dict"], prefix)
        for prefix, module in _by_prefix(model)
        if isinstance(module, _CountsSamples)
    ]
    sums = content.get("callbacks", {}).get(_PAIRS, {}).get("sums")
    counts += [sums.shape[-1]] if isinstance(sums, Tensor) and sums.ndim else []
    for count in counts:
        if count is not None and count != data.train_samples:
            raise InputError(
                f"checkpoint {str(checkpoint)!r} was written on {count:,} training samples, and there are "
                f"{data.train_samples:,} now: restore the old data, or start a new run (the checkpoint does not record "
                "which samples it was trained on, so they cannot be matched)"
            )


def _by_prefix(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module with the prefix of its entries in a state dict."""
    return ((f"{name}." if name else "", module) for name, module in model.named_modules())
