"""Five steps of one case by this process, which may be one of several: what comes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from contrast.banks import KeyStore
from contrast.callbacks.pair_history import PairHistory
from contrast.callbacks.recorder import ForwardHooks
from contrast.data.batch import Batch
from contrast.distributed import rank, world_size
from contrast.methods import ContrastiveMethod
from contrast.observation import observe
from tests.harness.process_matrix.cases import CASES, LABELS, PIXELS, SAMPLES

__all__ = ["STEPS", "train"]

STEPS = 5
_BATCH = 16
_COARSE = ("spectrum", "rank_me", "std", "norm")
_CANCELLING = "correlation"  # of temperatures that hardly differ: a quotient of differences
_MEANS = ("mean", "pull", "push", "alignment", "uniformity", "denominator")
_LAST = {1: [10], 2: [3, 7], 4: [3, 1, 4, 2]}
"""Rows of each process in the last, smaller batch."""


class _AStep(nn.Module):
    """A method's training step as the forward pass that DistributedDataParallel wants."""

    def __init__(self, method: ContrastiveMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch, step: int) -> Tensor:
        loss: Tensor = self.method.training_step(batch, step)["loss"]
        return loss


def train(name: str, precision: torch.dtype) -> dict[str, Any]:
    """Train a case: SGD with momentum, four batches that processes share evenly and a smaller one that they do not.

    Returns:
        "loss" of each step, averaged over processes; "gradient" of the first step and the last; "parameters" and the
        optimiser's "momentum" at the end; "memories": all buffers; "records": rows of every step; "coarse": what is
        recorded to single precision, every sample's means and singular values, whose squares are what is computed.
    """
    method = _made(name, precision)
    stepped: nn.Module = _AStep(method)
    stores = [name for name, module in method.named_modules() if isinstance(module, KeyStore) and module.parts > 1]
    # Torch's own name, which `ContrastiveMethod.setup` sets too: each process has its own part of a sharded bank.
    stepped._ddp_params_and_buffers_to_ignore = [f"method.{name}.keys" for name in stores]
    if world_size() > 1:
        stepped = DistributedDataParallel(stepped, find_unused_parameters=True)
    parameters = [each for each in method.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.02, momentum=0.9)
    history = PairHistory(SAMPLES, torch.device("cpu"))
    found: dict[str, Any] = {"loss": [], "gradient": [], "records": [], "coarse": []}
    for step, batch in enumerate(_batches(precision)):
        method.step = step
        watch = ForwardHooks(method.backbone, method.head)
        optimizer.zero_grad()
        loss = stepped(batch, step)
        assert method.seen is not None
        raw = watch.rows(method.seen.pairs[0].index)
        row = observe(method.loss, method.seen, LABELS, raw).row()
        found["records"].append(_fine(row, precision))
        found["coarse"].append([[row[part][name] for name in _COARSE] for part in ("embedding", "features")])
        history.add(method.seen)
        loss.backward()
        method.on_after_backward()
        found["loss"].append(_averaged(loss.detach()))
        if step in (0, STEPS - 1):
            found["gradient"].append(_as_one([each.grad for each in parameters if each.grad is not None]))
        optimizer.step()
    epoch = history.end_epoch()
    found["coarse"].append({name: value for name, value in epoch._asdict().items() if isinstance(value, Tensor)})
    found["parameters"] = _as_one(parameters)
    momenta = (each.get("momentum_buffer") for each in optimizer.state.values())
    found["momentum"] = _as_one([each for each in momenta if each is not None])
    trained = {name for name, each in method.named_parameters() if each.requires_grad}
    state = {name: _copied(value) for name, value in method.state_dict().items()}  # every process is to ask
    found["memories"] = {name: value for name, value in state.items() if name not in trained}
    return found


def _copied(value: Any) -> Any:
    """Tensors, and an index's centroids. A graph's bytes hold keys, of which float32 may change a bit: what it finds is
    seen in losses.
    """
    if isinstance(value, Tensor):
        return value.clone()
    return {name: each.clone() for name, each in value.items() if each.is_floating_point()}


def _as_one(tensors: Sequence[Tensor]) -> Tensor:
    """One vector: what is 0 but for rounding, as of a bias before a norm, is measured by all the others."""
    return torch.cat([each.detach().flatten() for each in tensors])


def _fine(part: Any, precision: torch.dtype) -> Any:
    """A row without what is coarse; in float32 its means alone, since there a score may well fall to the other side of
    the edge of a bin, or of a rank.
    """
    if isinstance(part, list):
        return [_fine(each, precision) for each in part]
    if not isinstance(part, dict):
        return part
    coarse = {_CANCELLING} if "counts" in part else {_CANCELLING, *_COARSE} - ({"std"} if "by_score" in part else set())
    kept = {name: _fine(value, precision) for name, value in part.items() if name not in coarse}
    if precision == torch.float64:
        return kept
    return {name: value for name, value in kept.items() if isinstance(value, dict) or name in (*_MEANS, "heads")}


def _made(name: str, precision: torch.dtype) -> Any:
    torch.manual_seed(0)
    method = CASES[name]()
    for bank in method.banks():
        bank.begin(SAMPLES)
    # Outside Lightning nobody counts: each step is an epoch of its own, so that what starts with one is seen.
    kind, step = type(method), property(lambda self: self.step)
    # By a name that no configuration has: one that two classes have is ambiguous in the same process.
    method.__class__ = type(f"{kind.__name__}Alone", (kind,), {"step": 0, "current_epoch": step, "global_step": step})
    return _in_float64(method) if precision == torch.float64 else method


def _in_float64(method: ContrastiveMethod) -> ContrastiveMethod:
    """Everything but a `FaissBank`'s keys, whose storage is its own."""
    stored = {name: value.clone() for name, value in method.named_buffers() if name.endswith("rows.keys")}
    method.double()
    for name, value in stored.items():
        owner, _, attribute = name.rpartition(".")
        setattr(method.get_submodule(owner), attribute, value)
    return method


def _batches(precision: torch.dtype) -> Iterator[Batch]:
    for step in range(STEPS):
        last = step == STEPS - 1
        generator = torch.Generator().manual_seed(step)
        order = torch.randperm(SAMPLES, generator=generator)[: sum(_LAST[1]) if last else _BATCH]
        views = torch.randn(2, len(order), 1, PIXELS, PIXELS, dtype=torch.float64, generator=generator).to(precision)
        counts = _LAST[world_size()] if last else [_BATCH // world_size()] * world_size()
        start = sum(counts[: rank()])
        mine = slice(start, start + counts[rank()])
        yield Batch((views[0, mine], views[1, mine]), order[mine])


def _averaged(loss: Tensor) -> Tensor:
    if world_size() > 1:
        dist.all_reduce(loss)
        loss /= world_size()
    return loss
