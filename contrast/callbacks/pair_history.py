"""Loss history of pairs: loss and positive score of every training sample, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from contrast.distributed import rank
from contrast.errors import InputError
from contrast.losses import LossOutput
from contrast.observation.sums import added_up
from contrast.runs.files import whole_file

__all__ = ["EpochOfPairs", "PairHistory", "histories_of", "move_histories", "moved_state", "require_history"]

FLAGS = ("noisy", "faulty")
"""Names of the two lowest bits of a stored flag."""
History = dict[str, list[float | None]]
_KEPT = ("loss", "positive", "weight")
_UNREADABLE = (OSError, SafetensorError, LookupError, ValueError, RuntimeError)

_COUNT, _LOSS, _POSITIVE, _WEIGHT, _LOSSES = range(5)


class EpochOfPairs(NamedTuple):
    """Means over each sample's queries of one epoch, (n,) on the CPU; NaN for samples that were not seen.

    Attributes:
        loss: mean loss; NaN also where the loss has no value for single queries.
        positive: mean score of the positive.
        weight: mean weight from the loss's weighting, else 1.
        flag: the flags of each sample, one bit each: 1 noisy, 2 faulty, and 4, 8, ... for other flags of a weighting.
        flag_names: the name of each bit of `flag`, lowest first.
    """

    loss: Float[Tensor, " n"]
    positive: Float[Tensor, " n"]
    weight: Float[Tensor, " n"]
    flag: Int[Tensor, " n"]
    flag_names: tuple[str, ...] = FLAGS

    def flag_of(self, sample: int) -> str | None:
        """The flags of a sample in words; None if it has none."""
        bits = int(self.flag[sample])
        return " and ".join(name for place, name in enumerate(self.flag_names) if bits >> place & 1) or None

    def save(self, path: Path, numbering: str = "") -> None:
        """Save as float16 and uint8, with an atomic write.

        Args:
            path: file to write.
            numbering: identifies the data set that the sample numbers refer to.
        """
        tensors = {name: getattr(self, name).half() for name in _KEPT}
        _save(path, {**tensors, "flag": self.flag.to(torch.uint8)}, numbering)


class PairHistory:
    """Loss history of every training sample: sums of the current epoch, and mean and spread over all completed epochs.

    Args:
        samples: number of training samples.
        device: device of the losses.
        numbering: identifies the data set that the sample numbers refer to, `DataIdentity.numbering`; stored in the
            files.
    """

    def __init__(self, samples: int, device: torch.device, numbering: str = "") -> None:
        self.numbering = numbering
        self._sums = torch.zeros(5, samples, device=device)
        # Number of epochs in which a sample was seen; then mean and sum of squares about it, of loss and of positive
        # score.
        self._running = torch.zeros(5, samples, dtype=torch.float64)

    @torch.no_grad()
    def add(self, output: LossOutput) -> None:
        """Add the queries of a step, without synchronising with the device."""
        index = torch.cat([pairs.index for pairs in output.pairs])
        positive = torch.cat([_scores(pairs.query, pairs.positive) for pairs in output.pairs])
        rows = torch.ones(5, len(index), device=index.device)
        losses = output.losses if output.losses is not None and output.losses.shape == index.shape else None
        rows[_LOSS] = 0.0 if losses is None else losses.float()
        rows[_LOSSES] = float(losses is not None)
        rows[_POSITIVE] = positive.float()
        if output.weights is not None:
            rows[_WEIGHT] = output.weights.float()
        # A sample that is unknown, or that a method made up, has no history.
        known = (index >= 0) & (index < self._sums.shape[1])
        self._sums.index_add_(1, torch.where(known, index, 0), rows * known)

    def end_epoch(self, flags: Mapping[str, Bool[Tensor, " n"]] | None = None) -> EpochOfPairs:
        """Means of the epoch over all processes; a collective call that every process must make.

        Args:
            flags: flagged samples of the epoch by the name of the flag, (n,) each; None for no flags.
        """
        sums = added_up(self._sums)
        self._sums = torch.zeros_like(self._sums)
        loss = sums[_LOSS] / sums[_LOSSES]
        positive, weight = (sums[row] / sums[_COUNT] for row in (_POSITIVE, _WEIGHT))
        self._add_to_running(loss.double(), positive.double())
        flag = torch.zeros(len(loss), dtype=torch.int64)
        names = tuple(dict.fromkeys([*FLAGS, *(flags or {})]))
        for name, flagged in (flags or {}).items():
            flag += flagged.cpu().long() << names.index(name)
        return EpochOfPairs(loss, positive, weight, flag, names)

    def save_all_epochs(self, path: Path) -> None:
        """Save how often each sample was seen, and mean and spread of its loss and positive score over these epochs."""
        seen, *moments = self._running
        tensors = {"seen": seen.to(torch.int32)}
        for name, mean, squares in (("loss", *moments[:2]), ("positive", *moments[2:])):
            kept = seen > 0
            tensors[f"{name}_mean"] = torch.where(kept, mean, torch.nan).float()
            tensors[f"{name}_std"] = torch.where(kept, (squares / seen.clamp(min=1)).sqrt(), torch.nan).float()
        _save(path, tensors, self.numbering)

    def state(self) -> dict[str, Tensor]:
        """State for a checkpoint; a collective call that every process must make."""
        return {"sums": added_up(self._sums), "running": self._running}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the state of a checkpoint; the first process receives the sums of all processes.

        Args:
            state: what `state` returned.

        Raises:
            InputError: where the state has another number of samples.
        """
        if state["sums"].shape != self._sums.shape or state["running"].shape != self._running.shape:
            raise InputError(
                f"the checkpoint has the history of {state['sums'].shape[-1]} samples, and the training set has "
                f"{self._sums.shape[1]}: resume on the run's own data"
            )
        self._running = state["running"]
        self._sums.copy_(state["sums"] if rank() == 0 else torch.zeros_like(state["sums"]))

    def _add_to_running(self, loss: Tensor, positive: Tensor) -> None:
        """Welford's update for the samples that were seen in the epoch."""
        here = ~positive.isnan()
        self._running[0] += here
        for row, values in ((1, loss), (3, positive)):
            delta = torch.where(here, values - self._running[row], 0.0)
            self._running[row] += delta / self._running[0].clamp(min=1)
            self._running[row + 1] += delta * torch.where(here, values - self._running[row], 0.0)


def require_history(state: Any) -> None:
    """Refuse a stored state that is not a `PairHistory`'s.

    Args:
        state: what a checkpoint holds.

    Raises:
        InputError: one line with the entry that is missing or of another type.
    """
    for name, dtype in (("sums", torch.float32), ("running", torch.float64)):
        value = state.get(name) if isinstance(state, Mapping) else None
        if not (torch.is_tensor(value) and value.dtype == dtype and value.ndim == 2):
            raise InputError(
                f"the checkpoint's history of pairs has no matrix {name!r} of {str(dtype).removeprefix('torch.')}: the "
                "file was changed after it was written: start a new run"
            )


def moved_state(state: dict[str, Tensor], old_of: Int[Tensor, " m"]) -> dict[str, Tensor]:
    """Renumber the samples in a `PairHistory`'s state after the data set changed; new samples count as never seen.

    Args:
        state: state of the old data.
        old_of: for each sample of the new data, its number in the old data; -1 for a new sample.
    """
    return {name: torch.where(old_of >= 0, each[:, old_of.clamp(min=0)], 0) for name, each in state.items()}


def move_histories(folder: Path, old_of: Int[Tensor, " m"], count: int, before: str, after: str) -> None:
    """Renumber the samples in a run's history files after the data set changed; new samples have no history.

    Each file is replaced atomically and states its numbering, so that a repeated call changes nothing.

    Args:
        folder: folder of the files.
        old_of: for each sample of the new data, its number in the old data; -1 for a new sample.
        count: number of samples of the old data.
        before, after: numbering of the old data and of the new data.
    """
    for path in sorted(folder.glob("*.safetensors")):
        try:
            numbering, tensors = _numbered(path)
        except _UNREADABLE:
            continue
        if numbering in (before, "") and all(each.shape == (count,) for each in tensors.values()):
            _save(path, {name: _moved(each, old_of) for name, each in tensors.items()}, after)


def _moved(values: Tensor, old_of: Tensor) -> Tensor:
    missing = torch.nan if values.is_floating_point() else 0
    return torch.where(old_of >= 0, values[old_of.clamp(min=0)], torch.tensor(missing, dtype=values.dtype))


def histories_of(folder: Path, samples: Sequence[int], until: int, numbering: str = "") -> dict[int, History]:
    """Read the history of some samples: for each, lists `epoch`, `loss`, `positive` and `weight`.

    Args:
        folder: folder of the files.
        samples: numbers of the samples.
        until: last epoch to read. Files of later epochs exist where a run was killed and resumed from an earlier
            checkpoint.
        numbering: identifies the data set that the sample numbers refer to; files of another numbering are skipped.
    """
    histories: dict[int, History] = {each: {name: [] for name in ("epoch", *_KEPT)} for each in samples}
    index = torch.tensor(list(histories), dtype=torch.int64)
    for path in sorted(folder.glob("epoch-*.safetensors")):
        number = path.stem.removeprefix("epoch-")
        if not number.isdecimal() or int(number) > until or not path.is_file():
            continue
        try:
            of, tensors = _numbered(path)
            columns = [tensors[name][index].tolist() for name in _KEPT]
        except _UNREADABLE:  # damaged, or for other samples
            continue
        if of and numbering and of != numbering:
            continue
        for history, *values in zip(histories.values(), *columns, strict=True):
            history["epoch"].append(int(number))
            for name, value in zip(_KEPT, values, strict=True):
                history[name].append(round(value, 5) if value == value else None)
    return histories


def _scores(query: Tensor, positive: Tensor) -> Tensor:
    """Score of each query with its positive, mean over heads."""
    score = (query * positive).sum(dim=-1)
    return score.flatten(0, -2).mean(dim=0) if score.ndim > 1 else score


def _numbered(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Numbering of a file (empty where it states none) and its tensors."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        return metadata.get("numbering", ""), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _save(path: Path, tensors: dict[str, Tensor], numbering: str) -> None:
    # Write bytes, so that a failure is an OSError; safetensors' own writer raises its own exception.
    with whole_file(path) as part:
        part.write_bytes(save(tensors, metadata={"numbering": numbering} if numbering else None))
