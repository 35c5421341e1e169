"""Two and three processes with different data on each equal one: loss, gradients, queue and recorded statistics."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from tests.reference.observation import near

SAMPLES, WIDTH, SIZE = 12, 5, 20


def embeddings() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, SAMPLES, WIDTH, dtype=torch.float64, generator=generator)


def step(rows: slice) -> dict[str, Any]:
    """One SimCLR-like and one MoCo-like step on some of the rows; gradients as DDP would average them."""
    from contrast import in_batch_pairs, losses, queue_pairs
    from contrast.banks import KeyQueue
    from contrast.observation import observe

    inputs = embeddings()[:, rows].requires_grad_()
    first, second = torch.nn.functional.normalize(inputs, dim=-1)
    index = torch.arange(SAMPLES)[rows]
    found: dict[str, Any] = {}
    queue = KeyQueue(WIDTH, SIZE).double()
    for objective in (losses.InfoNCE(), losses.DCL(), losses.DCLW()):
        name = type(objective).__name__
        loss = losses.ContrastiveLoss(objective, losses.LearnedTemperature(0.3)).double()
        output = loss(in_batch_pairs(first, second, index))
        gradients = torch.autograd.grad(output.loss, [inputs, loss.temperature.log_value], retain_graph=True)
        found[f"{name}/in-batch"] = (output.loss.detach(), *gradients)
        offered = queue.negatives(first, index)
        output = loss(queue_pairs(first, second, offered.keys, index, offered.index))
        gradients = torch.autograd.grad(output.loss, [inputs, loss.temperature.log_value], retain_graph=True)
        found[f"{name}/queue"] = (output.loss.detach(), *gradients)
        queue.store(second, index)
        seen = (in_batch_pairs(first, second, index), queue_pairs(first, second, offered.keys, index, offered.index))
        found[f"{name}/scores"] = tuple(
            observe(loss, loss(pairs), torch.arange(SAMPLES) % 3, queries=queries).row()
            for pairs in seen
            for queries in (None, 7, 1)
        )
    found["queue"] = {key: value.clone() for key, value in queue.state_dict().items()}
    return found


def work(rank: int, parts: list[slice], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(parts))
    torch.save(step(parts[rank]), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("cuts", [[0, 5, 12], pytest.param([0, 4, 8, 12], marks=pytest.mark.slow)], ids=["2", "3"])
def test_processes_equal_one(cuts: list[int], tmp_path: Path) -> None:
    parts = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    multiprocessing.spawn(work, args=(parts, str(tmp_path)), nprocs=len(parts))
    one = step(slice(0, SAMPLES))
    many = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(len(parts))]
    for name, value in one.items():
        if "/scores" in name:
            for each in many:
                for seen, expected in zip(each[name], value, strict=True):
                    near(seen, expected, name)
        elif "/" in name:
            losses, inputs, temperatures = zip(*(each[name] for each in many), strict=True)
            # DDP averages over ranks; each rank's inputs are its own, so their gradients stand side by side.
            torch.testing.assert_close(torch.stack(losses).mean(), value[0], rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(torch.cat(inputs, 1) / len(parts), value[1], rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(torch.stack(temperatures).mean(0), value[2], rtol=1e-9, atol=1e-12)
    for each in many:
        for key, expected in one["queue"].items():
            torch.testing.assert_close(each["queue"][key], expected)


def keys(rows: slice) -> torch.Tensor:
    """MoCo's keys of some of the images, shuffled across processes on the way; no norm looks at the batch."""
    from contrast.methods import MoCo
    from contrast.models import ConvNet

    torch.manual_seed(0)
    method = MoCo(ConvNet((4, 8), channels=1, image_size=8), bank=None).eval()
    images = torch.randn(SAMPLES, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    seen: list[torch.Tensor] = []
    method.key_encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    found = method.embed_keys(images[rows])
    shuffled = not torch.equal(seen[0], images[rows])
    assert shuffled == dist.is_initialized()
    return found


def encode_keys(rank: int, parts: list[slice], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(parts))
    torch.save(keys(parts[rank]), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_keys_shuffled_across_processes_come_back_in_order(tmp_path: Path) -> None:
    parts = [slice(0, 6), slice(6, 12)]
    multiprocessing.spawn(encode_keys, args=(parts, str(tmp_path)), nprocs=2)
    many = torch.cat([torch.load(tmp_path / f"{rank}.pt") for rank in range(2)])
    torch.testing.assert_close(many, keys(slice(0, SAMPLES)))
