"""Two and three processes with different data on each equal one, for the losses and methods beside the formula."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

from contrast import cross_pairs, in_batch_pairs, queue_pairs
from contrast.banks import KeyQueue
from contrast.data.batch import Batch
from contrast.losses import (
    DCL,
    LOOK,
    AdaptiveTemperature,
    BarlowTwins,
    BYOLLoss,
    ContrastiveLoss,
    InfoNCE,
    LearnedTemperature,
    Loss,
    SimSiamLoss,
    SupCon,
    VICReg,
)
from tests.losses.second_door import one_direction, raw
from tests.methods.small_methods import small

SAMPLES, WIDTH, SIZE, HEADS = 12, 5, 20, 2
LABELS = torch.tensor([0, 1, 0, 2, -1, 1, 0, 3, 1, -1, 0, 2])


def adaptive(width: int) -> AdaptiveTemperature:
    torch.manual_seed(0)
    return AdaptiveTemperature(width, 8).double()


def learned() -> LearnedTemperature:
    return LearnedTemperature(0.3).double()


LOSSES: dict[str, Callable[[], Loss]] = {
    "BarlowTwins": lambda: BarlowTwins(0.1),
    "AMCL's BarlowTwins": lambda: BarlowTwins(0.1, adaptive(SAMPLES)),
    "VICReg": VICReg,
    "SimSiam": lambda: SimSiamLoss(learned()),
    "AMCL's SimSiam": lambda: SimSiamLoss(adaptive(WIDTH)),
    "BYOL": BYOLLoss,
    "SupCon": lambda: SupCon(LABELS, learned()),
    "LOOK": lambda: LOOK(LABELS, 4, learned()),
}
DIRECTED = ("BarlowTwins", "VICReg", "SimSiam", "BYOL")


def steps(rows: slice) -> dict[str, tuple[Tensor, ...]]:
    """Each loss on some of the rows, with one head and two, and its gradients."""
    found: dict[str, tuple[Tensor, ...]] = {}
    index = torch.arange(SAMPLES)[rows]
    queue = KeyQueue(WIDTH, SIZE).double()
    queue.store(torch.nn.functional.normalize(raw(7, SAMPLES, WIDTH), dim=-1)[rows], index)
    for (name, made), heads in itertools.product(LOSSES.items(), [(), (HEADS,)]):
        inputs = raw(0, 2, *heads, SAMPLES, WIDTH)[..., rows, :].requires_grad_()
        first, second = torch.nn.functional.normalize(inputs, dim=-1)
        keys = queue.keys.expand(*heads, SIZE, WIDTH)
        loss = made()
        if name.endswith(DIRECTED):
            sources = {
                "one direction": one_direction(*(inputs if not loss.unit_embeddings else (first, second)), index)
            }
        else:
            place = torch.arange(SIZE) >= queue.filled
            sources = {
                "in-batch": in_batch_pairs(first, second, index),
                "cross": cross_pairs(first, second, index),
                "queue": queue_pairs(first, second, keys, index, queue.index, place),
            }
        for source, pairs in sources.items():
            output = loss(pairs)
            moved = torch.autograd.grad(
                output.loss, [inputs, *loss.parameters()], retain_graph=True, materialize_grads=True
            )
            found[f"{name}/{source}/{len(heads)}"] = (output.loss.detach(), moved[0].movedim(-2, -1), *moved[1:])
    return found


METHODS: dict[str, dict[str, Any]] = {
    "NNCLR": {"loss": ContrastiveLoss(InfoNCE(), 0.2)},
    "NNCLR with DCL": {"loss": ContrastiveLoss(DCL(), 0.2)},
    "MoCoV3": {"loss": ContrastiveLoss(InfoNCE(), 0.2)},
    "SimSiam": {},
    "BYOL": {},
    "TwoView": {"loss": VICReg()},
}


def training(rows: slice) -> dict[str, tuple[Tensor, ...]]:
    """Two steps of plain SGD of each method, gradients averaged as DDP would; no norm looks at the batch."""
    found: dict[str, tuple[Tensor, ...]] = {}
    for name, arguments in METHODS.items():
        method = small(name.split()[0], **arguments).double().eval()
        losses = []
        for step in range(3):
            views = raw(step, 2, SAMPLES, 1, 8, 8)[:, rows]
            output = method.training_step(Batch((views[0], views[1]), torch.arange(SAMPLES)[rows]), step)
            parameters = list(method.trained().parameters())
            moved = torch.autograd.grad(output["loss"], parameters)
            method.on_after_backward()
            with torch.no_grad():
                for parameter, gradient in zip(parameters, moved, strict=True):
                    parameter.sub_(averaged(gradient), alpha=0.05)
            losses.append(averaged(output["loss"].detach()))
        found[name] = (torch.stack(losses), *method.state_dict().values())
    return found


def averaged(value: Tensor) -> Tensor:
    if not dist.is_initialized():
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()


def work(rank: int, parts: list[slice], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(parts))
    torch.save((steps(parts[rank]), training(parts[rank])), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("cuts", [[0, 5, 12], pytest.param([0, 3, 7, 12], marks=pytest.mark.slow)], ids=["2", "3"])
def test_processes_equal_one(cuts: list[int], tmp_path: Path) -> None:
    parts = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    multiprocessing.spawn(work, args=(parts, str(tmp_path)), nprocs=len(parts))
    many = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(len(parts))]
    one = steps(slice(0, SAMPLES))
    assert len(one) == 2 * (6 + 2 * 3)
    for name, (loss, inputs, *parameters) in one.items():
        ranks = [each[0][name] for each in many]
        assert inputs.any(), name
        # DDP averages over ranks; each rank's inputs are its own, so their gradients stand side by side.
        close(torch.stack([rank[0] for rank in ranks]).mean(), loss, name)
        close(torch.cat([rank[1] for rank in ranks], dim=-1) / len(parts), inputs, name)
        for place, expected in enumerate(parameters):
            close(torch.stack([rank[2 + place] for rank in ranks]).mean(dim=0), expected, name)
    trained = training(slice(0, SAMPLES))
    for name, values in trained.items():
        assert values[0].unique().numel() == 3  # it learns something at each step
        for each in many:
            for found, expected in zip(each[1][name], values, strict=True):
                close(found, expected, name)


def close(found: Tensor, expected: Tensor, what: str) -> None:
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-10), (what, found, expected)
