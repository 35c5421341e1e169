"""Check of an observer: the properties that a run relies on."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from contrast.checks import checked
from contrast.errors import InputError
from contrast.losses import (
    BarlowTwins,
    ContrastiveLoss,
    HardNegativeMixing,
    InfoNCE,
    LearnedTemperature,
    Loss,
    LossOutput,
)
from contrast.observation import Observer, RawRows, checked_observers, observe, plain_row, plain_scalars
from contrast.pairs import Pairs, in_batch_pairs, queue_pairs

__all__ = ["check_observer"]

_SAMPLES, _WIDTH = 8, 6
_SECONDS = 300  # for two processes, most of which they need to import torch
_PROCESS = (
    "import sys; sys.path[:] = {path!r}; from contrast.testing.observer import observe_part; observe_part(sys.argv[1:])"
)


@checked
def check_observer(observer: Observer, processes: bool = True) -> None:
    """Check that an observer can be listed in a run.

    The observer is copied for each step, as in a run; the given object stays as it is. It is shown steps of losses with
    and without negatives, with one head and several, with and without labels and network outputs, in float32 and
    float64, and, where there is one, on a CUDA device. The properties are:

    - its name can be used, and it can be copied and pickled;
    - its row is plain data, and so are its scalars;
    - two copies record the same row of the same step;
    - the row does not depend on the device, up to rounding;
    - it changes no pairs, parameters, gradients or buffers of the loss, and no state of a random generator;
    - two processes with different data record the same row.

    Args:
        observer: the observer; its class must be importable, so not defined in a script that runs as a program.
        processes: whether to start two processes, which takes some seconds. Leave it True in at least one test.

    Raises:
        AssertionError: one sentence that names the property, the value and the usual cause.
    """
    said = f"{type(observer).__qualname__}: "
    try:
        checked_observers([observer])
    except InputError as error:
        raise AssertionError(f"{said}its name cannot be used: {error}") from error
    pickled = _pickled(said, observer)
    for name, (loss, output, raw) in _steps().items():
        for labels in (None, torch.arange(2 * _SAMPLES) % 3):
            of_step = f"{said}in a step of {name}{'' if labels is None else ' with labels'}, "
            rows = [_unchanged(of_step, observer, loss, output, labels, raw) for _ in range(2)]
            if rows[0] != rows[1]:
                raise AssertionError(
                    f"{of_step}two rows of the same step differ, {rows[0]} and {rows[1]}: `add` must not use random "
                    "numbers, the time, or numbers that an earlier step left"
                )
            if torch.cuda.is_available():
                _check_device(of_step, observer, rows[0], loss, output, labels, raw)
    if processes:
        _check_processes(said, pickled)


def _pickled(said: str, observer: Observer) -> bytes:
    try:
        copy.deepcopy(observer)
        pickled = pickle.dumps(observer)
        pickle.loads(pickled)
    except Exception as error:
        raise AssertionError(
            f"{said}it cannot be copied or pickled ({type(error).__name__}: {error}): keep plain data and tensors on "
            "self, and define the class in a module"
        ) from error
    return pickled


def _steps() -> dict[str, tuple[Loss, LossOutput, RawRows | None]]:
    """Losses with their outputs and the network outputs, by a description."""
    losses: dict[str, tuple[Loss, Pairs]] = {}
    for dtype in (torch.float64, torch.float32):
        of = str(dtype).removeprefix("torch.")
        losses[f"SimCLR in {of}"] = (_contrastive().to(dtype), _in_batch(dtype))
        losses[f"MoCo with mixed negatives in {of}"] = (_contrastive(mixes=True).to(dtype), _queue(dtype, 12))
    losses["two heads"] = (_contrastive(), _in_batch(torch.float32, heads=2))
    losses["MoCo with an empty queue"] = (_contrastive(), _queue(torch.float32, 0))
    losses["MoCo with a queue of random rows"] = (_contrastive(), _queue(torch.float32, 12, filled=0))
    every = torch.arange(12).expand(_SAMPLES, 12)
    excluded = dataclasses.replace(_queue(torch.float32, 12), excluded=every)
    losses["queries whose negatives are all excluded"] = (_contrastive(), excluded)
    losses["a loss without negatives"] = (BarlowTwins(), _two_views())
    steps: dict[str, tuple[Loss, LossOutput, RawRows | None]] = {}
    for place, (name, (loss, pairs)) in enumerate(losses.items()):
        raw = RawRows(_rows(7, _SAMPLES, 10), _rows(8, _SAMPLES, _WIDTH), torch.arange(_SAMPLES))
        with torch.enable_grad():
            output = loss(pairs)
            output.loss.backward()
        steps[name] = (loss, output, raw if place % 2 else None)
    return steps


def _contrastive(mixes: bool = False) -> ContrastiveLoss:
    transforms = [HardNegativeMixing(hardest=4, pairs=3, queries=2, start_epoch=0)] if mixes else []
    return ContrastiveLoss(InfoNCE(), LearnedTemperature(0.2), transforms)


def _rows(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=dtype, generator=generator), dim=-1)


def _in_batch(dtype: torch.dtype, heads: int = 0, start: int = 0) -> Pairs:
    shape = (*([heads] if heads else []), _SAMPLES, _WIDTH)
    first, second = (_rows(start + seed, *shape, dtype=dtype).requires_grad_() for seed in (1, 2))
    return in_batch_pairs(first, second, start + torch.arange(_SAMPLES))


def _queue(dtype: torch.dtype, size: int, filled: int = 10) -> Pairs:
    place = torch.arange(size)
    index = torch.where(place < filled, place + _SAMPLES - 2, -1)
    query, key = (_rows(seed, _SAMPLES, _WIDTH, dtype=dtype) for seed in (3, 4))
    keys = _rows(5, size, _WIDTH, dtype=dtype)
    return queue_pairs(query.requires_grad_(), key, keys, torch.arange(_SAMPLES), index, placeholder=place >= filled)


def _two_views() -> Pairs:
    one, other = (_rows(seed, _SAMPLES, _WIDTH) for seed in (1, 2))
    nothing = torch.empty(0, dtype=torch.int64)
    return Pairs(one.requires_grad_(), other, one.new_empty(0, _WIDTH).detach(), torch.arange(_SAMPLES), nothing)


def _row(said: str, observer: Observer, see: Callable[[Observer], Any]) -> dict[str, Any]:
    """Row of a fresh copy of the observer after it has seen a step."""
    fresh = copy.deepcopy(observer)
    with np.errstate(all="ignore"):
        try:
            see(fresh)
            found = fresh.row()
            row = plain_row(observer, found)
            plain_scalars(observer, fresh.scalars(row))
        except InputError as error:
            raise AssertionError(f"{said}what it records is not plain data: {error}") from error
        except Exception as error:
            raise AssertionError(
                f"{said}it raised {type(error).__name__}: {error}. A step may have no negatives, no labels, no network "
                "outputs or several heads"
            ) from error
    return row


def _unchanged(
    said: str, observer: Observer, loss: Loss, output: LossOutput, labels: Tensor | None, raw: RawRows | None
) -> dict[str, Any]:
    """Row of a step, checked to have changed nothing else."""
    held = dict(_held(loss, output, labels, raw))
    before = {name: tensor.clone() for name, tensor in held.items()}
    states = _random_states()
    row = _row(said, observer, lambda fresh: observe(loss, output, labels, raw, further=[fresh]))
    for name, tensor in _held(loss, output, labels, raw):
        if name not in before or not torch.equal(tensor.nan_to_num(), before[name].nan_to_num()):
            raise AssertionError(f"{said}it changed {name}: compute with copies, not in place")
    for name, state in _random_states().items():
        if state != states[name]:
            raise AssertionError(
                f"{said}it changed the random state of {name}, and so the training: draw with a generator of its own, "
                "or with contrast.randomness.uniform"
            )
    return row


def _held(loss: Loss, output: LossOutput, labels: Tensor | None, raw: RawRows | None) -> Iterator[tuple[str, Tensor]]:
    """Tensors that an observer must not change, by name."""
    for name, parameter in loss.named_parameters():
        yield f"the parameter {name}", parameter.detach()
        if parameter.grad is not None:
            yield f"the gradient of {name}", parameter.grad
    yield from ((f"the buffer {name}", buffer) for name, buffer in loss.named_buffers())
    for place, pairs in enumerate(output.pairs):
        named = ((name, value) for name, value in vars(pairs).items() if isinstance(value, Tensor))
        yield from ((f"{name} of pairs[{place}]", value) for name, value in named)
    others = {"output.losses": output.losses, "output.weights": output.weights, "the labels": labels}
    yield from ((name, value) for name, value in others.items() if value is not None)
    if raw is not None:
        yield from zip(("raw.features", "raw.embeddings", "raw.index"), raw, strict=True)


def _random_states() -> dict[str, Any]:
    of_numpy = np.random.get_state(legacy=False)
    return {"torch": torch.get_rng_state().tolist(), "numpy": repr(of_numpy)}


def _check_device(
    said: str,
    observer: Observer,
    expected: dict[str, Any],
    loss: Loss,
    output: LossOutput,
    labels: Tensor | None,
    raw: RawRows | None,
) -> None:
    def moved(value: Any) -> Any:
        if isinstance(value, Pairs):
            fields = {name: moved(each) for name, each in vars(value).items()}
            return Pairs(**{name: each for name, each in fields.items() if each is not None})
        return value.to("cuda") if isinstance(value, Tensor) else value

    pairs = tuple(map(moved, output.pairs))
    there = LossOutput(moved(output.loss), moved(output.losses), moved(output.weights), pairs)
    device_raw = None if raw is None else RawRows(*map(moved, raw))
    on_device = copy.deepcopy(loss).to("cuda")
    row = _row(
        f"{said}on a CUDA device ",
        observer,
        lambda fresh: observe(on_device, there, moved(labels), device_raw, further=[fresh]),
    )
    if not _alike(row, expected):
        raise AssertionError(f"{said}the row on a CUDA device is {row}, and {expected} on the CPU")


def _alike(one: Any, other: Any) -> bool:
    """Whether two plain rows are equal up to rounding; counts of a histogram may move to a neighbouring bin."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            sum(one[key]) == sum(other[key]) if key == "counts" else _alike(one[key], other[key]) for key in one
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return math.isclose(one, other, rel_tol=1e-2, abs_tol=1e-3)


def _check_processes(said: str, pickled: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "observer.pkl").write_bytes(pickled)
        command = [sys.executable, "-c", _PROCESS.format(path=sys.path), folder]
        children = [subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in range(2)]
        try:
            errors = [child.communicate(timeout=_SECONDS)[1] for child in children]
        except subprocess.TimeoutExpired as error:
            raise AssertionError(
                f"{said}two processes did not finish within {_SECONDS} s: every process must make the same collective "
                "calls, in `add` and in `row`"
            ) from error
        finally:
            for child in children:
                child.kill()
        for child, text in zip(children, errors, strict=True):
            if child.returncode:
                last = text.strip().splitlines()[-1] if text.strip() else f"exit code {child.returncode}"
                raise AssertionError(f"{said}with two processes, one failed: {last}")
        rows = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(2)]
    if rows[0] != rows[1]:
        raise AssertionError(
            f"{said}two processes with different data record different rows, {rows[0]} and {rows[1]}: `row` must sum "
            "over all processes, for example with contrast.observation.Average"
        )


def observe_part(arguments: list[str]) -> None:
    """Entry point of one of the two processes of `check_observer`: observe a part of the data and write the row.

    Args:
        arguments: a folder with the pickled observer, and the rank.
    """
    folder, rank = Path(arguments[0]), int(arguments[1])
    torch.set_num_threads(1)
    observer = pickle.loads((folder / "observer.pkl").read_bytes())
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    loss = _contrastive()
    output = loss(_in_batch(torch.float32, start=20 * rank))
    labels = torch.arange(3 * _SAMPLES * 2) % 3
    fresh = copy.deepcopy(observer)
    observe(loss, output, labels, further=[fresh])
    row = plain_row(observer, fresh.row())
    (folder / f"{rank}.json").write_text(json.dumps(row))
    dist.barrier()
    dist.destroy_process_group()
