"""Two and three processes with different data on each equal one, for every piece: losses, gradients, mixes, state."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

from contrast import Pairs, cross_pairs, in_batch_pairs, queue_pairs
from contrast.banks import KeyQueue
from contrast.losses import BadPairMining, ContrastiveLoss
from tests.losses.examples import OBJECTIVES, TRANSFORMS, adaptive, learned

SAMPLES, WIDTH, SIZE, STEPS = 12, 6, 20, 3
SOURCES = ("in-batch", "heads", "cross", "queue")


def losses() -> dict[str, ContrastiveLoss]:
    """Each transform, each objective, and the temperature of pairs; a weighting over all transforms."""
    mining = BadPairMining(SAMPLES, warmup_epochs=1, noisy=0.3, faulty=0.3).double()
    all_of_them = TRANSFORMS["all"]
    return {
        **{name: ContrastiveLoss(OBJECTIVES["InfoNCE"](), learned(), made()) for name, made in TRANSFORMS.items()},
        **{name: ContrastiveLoss(made(), learned(), all_of_them()) for name, made in OBJECTIVES.items()},
        "adaptive": ContrastiveLoss(OBJECTIVES["InfoNCE"](), adaptive(), all_of_them()),
        "mining": ContrastiveLoss(OBJECTIVES["InfoNCE"](), learned(), all_of_them(), mining),
    }


def embeddings(step: int) -> Tensor:
    """(view, head, sample, d), which training would move from step to step."""
    generator = torch.Generator().manual_seed(step)
    return torch.randn(2, 2, SAMPLES, WIDTH, dtype=torch.float64, generator=generator)


def make_pairs(source: str, inputs: Tensor, index: Tensor, queue: KeyQueue) -> Pairs:
    both = torch.nn.functional.normalize(inputs, dim=-1)
    if source == "heads":
        return in_batch_pairs(both[0], both[1], index)
    first, second = both[0, 0], both[1, 0]
    if source == "in-batch":
        return in_batch_pairs(first, second, index)
    if source == "cross":
        return cross_pairs(first, second, index)
    offered = queue.negatives(first.detach(), index)
    return queue_pairs(first, second, offered.keys, index, offered.index, offered.placeholder)


def run(samples: slice) -> dict[str, Any]:
    """Three steps of every loss on some of the samples."""
    found: dict[str, Any] = {}
    index = torch.arange(SAMPLES)[samples]
    for source in SOURCES:
        for name, loss in losses().items():
            queue = KeyQueue(WIDTH, SIZE).double()
            for step in range(STEPS):
                inputs = embeddings(step)[:, :, samples].requires_grad_()
                loss.begin_epoch(step)
                loss.begin_step(step, step)
                pairs = make_pairs(source, inputs, index, queue)
                output = loss(pairs)
                parameters = list(loss.parameters())
                moved = torch.autograd.grad(output.loss, [inputs, *parameters])
                if source == "queue":
                    queue.store(pairs.positive, index)
                found[f"{source}/{name}/{step}"] = gathered_form(output, moved, len(index))
            found[f"{source}/{name}/state"] = {k: v.clone() for k, v in loss.state_dict().items()}
    return found


def gathered_form(output: Any, moved: tuple[Tensor, ...], count: int) -> dict[str, Tensor]:
    """Numbers of this rank's samples, samples last where there are any, so that ranks can be laid side by side."""
    (pairs,) = output.pairs
    by_query = {"losses": output.losses, "weights": output.weights}
    if pairs.own_negatives is not None:
        by_query["mixes"] = pairs.own_negatives.movedim(-3, -1)
    of_samples = {name: value.unflatten(-1, (-1, count)) for name, value in by_query.items() if value is not None}
    return {"loss": output.loss.detach(), "inputs": moved[0].movedim(2, -1), "parameters": moved[1:], **of_samples}


def work(rank: int, parts: list[slice], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(parts))
    torch.save(run(parts[rank]), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    return run(slice(0, SAMPLES))


@pytest.mark.parametrize("cuts", [[0, 5, 12], pytest.param([0, 2, 7, 12], marks=pytest.mark.slow)], ids=["2", "3"])
def test_processes_equal_one(cuts: list[int], tmp_path: Path, one: dict[str, Any]) -> None:
    parts = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    multiprocessing.spawn(work, args=(parts, str(tmp_path)), nprocs=len(parts))
    many = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(len(parts))]
    assert len(one) == len(SOURCES) * (len(TRANSFORMS) + len(OBJECTIVES) + 2) * (STEPS + 1)
    for name, expected in one.items():
        ranks = [each[name] for each in many]
        if name.endswith("/state"):
            compare_states(ranks, expected, name)
        else:
            compare_steps(ranks, expected, name)


def compare_states(ranks: list[dict[str, Tensor]], expected: dict[str, Tensor], name: str) -> None:
    for key, value in expected.items():
        assert all(torch.equal(each[key], ranks[0][key]) for each in ranks), (name, key)
        torch.testing.assert_close(ranks[0][key], value, rtol=1e-10, atol=1e-12)


def compare_steps(ranks: list[dict[str, Any]], expected: dict[str, Any], name: str) -> None:
    """As DDP averages gradients of parameters over ranks, so each rank's inputs have world times their own."""
    for key, value in expected.items():
        if key == "parameters":
            for averaged, of_one in zip(zip(*(each[key] for each in ranks), strict=True), value, strict=True):
                close(torch.stack(averaged).mean(dim=0), of_one, (name, key))
        elif key == "loss":
            close(torch.stack([each[key] for each in ranks]).mean(), value, (name, key))
        else:
            beside = torch.cat([each[key] for each in ranks], dim=-1)
            close(beside / len(ranks) if key == "inputs" else beside, value, (name, key))


def close(found: Tensor, expected: Tensor, what: tuple[str, str]) -> None:
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-11), (*what, found, expected)


def test_what_is_compared_is_there(one: dict[str, Any]) -> None:
    """Mixes are mixed, samples are flagged, temperatures are moved: else the comparison would say nothing."""
    for source in SOURCES:
        last = one[f"{source}/mining/{STEPS - 1}"]
        assert 1 < last["weights"].unique().numel() <= SAMPLES + 1
        state = one[f"{source}/mining/state"]
        assert state["weighting.is_noisy"].any()
        assert state["weighting.is_faulty"].any()
        assert last["mixes"].any()
        assert all(each.any() for each in last["parameters"])
        assert one[f"{source}/adaptive/0"]["parameters"][0].any()
