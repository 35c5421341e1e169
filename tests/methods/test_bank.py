"""MoCo and SimCLR with a bank of nearest keys, in one process and in several."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

from contrast.banks import FaissBank, Hardest, Stratified
from contrast.losses import ContrastiveLoss, InfoNCE
from contrast.methods import MoCo, SimCLR
from contrast.models import ConvNet, LinearHead, MultiHead
from tests.commands.running import pretrain
from tests.methods.small_methods import batch

HEAD = partial(LinearHead, output_width=8)
HEADS = {"one head": HEAD, "two heads": lambda width: MultiHead(width, HEAD, 2)}
METHODS = {"SimCLR": SimCLR, "MoCo": MoCo, "MoCo v2+": partial(MoCo, symmetric=True)}
SAMPLES = 24


def method(name: str, heads: str = "one head", mining: Any = None, warmup_steps: int = 0) -> Any:
    torch.manual_seed(0)
    net = ConvNet((4, 8), channels=1, image_size=8)
    loss = ContrastiveLoss(InfoNCE(), 0.2)
    bank = partial(FaissBank, size=SAMPLES, per_sample=True, mining=mining or Hardest(5), warmup_steps=warmup_steps)
    return METHODS[name](net, HEADS[heads], loss, bank=bank)


def filled(name: str, heads: str = "one head", **arguments: Any) -> Any:
    made = method(name, heads, **arguments)
    for start in (0, 8):
        made.loss(*made.pairs(batch(start, start=start)))
        made.on_after_backward()
    return made


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("name", METHODS)
def test_queries_meet_their_nearest_keys_of_other_samples(name: str, heads: str) -> None:
    made = filled(name, heads)
    seen = made.pairs(batch(5, start=4))
    several = heads != "one head"
    banks = iter(made.banks())
    for pairs in seen:
        assert pairs.negatives.shape[-2] == (16 if name == "SimCLR" else 0)
        for head in range(2 if several else 1):
            bank = next(banks)
            query, own = (rows[head] if several else rows for rows in (pairs.query, pairs.own_negatives))
            scores = query.detach() @ bank.rows.keys[:16].T
            scores = scores.masked_fill(bank.rows.index[:16] == pairs.index[:, None], -torch.inf)
            expected = scores.topk(5).values
            torch.testing.assert_close(torch.einsum("bd,bsd->bs", query.detach(), own), expected)
        assert not own.requires_grad
        assert (pairs.own_negative_index != pairs.index[:, None]).all()
        assert (pairs.own_negative_index != -2).all()


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_over_the_batchs_and_the_banks_negatives(name: str) -> None:
    made = filled(name)
    output = made.loss(*made.pairs(batch(5, start=4)))
    losses = []
    for pairs in output.pairs:
        for place, sample in enumerate(pairs.index):
            query = pairs.query[place]
            rows = [row for row, of in zip(pairs.negatives, pairs.negative_index, strict=True) if of != sample]
            logits = torch.stack(
                [query @ row / 0.2 for row in [pairs.positive[place], *rows, *pairs.own_negatives[place]]]
            )
            losses.append(-torch.log_softmax(logits, dim=0)[0].detach())
    torch.testing.assert_close(output.losses, torch.stack(losses))


@pytest.mark.parametrize("name", METHODS)
def test_keys_are_stored_after_backward_each_in_its_samples_row(name: str) -> None:
    made = method(name)
    seen = made.pairs(batch(0, start=3))
    assert all(int(bank.rows.filled) == 0 for bank in made.banks())
    assert all(pairs.placeholder is not None and int(pairs.placeholder.sum()) == 5 for pairs in seen)
    made.on_after_backward()
    for bank, pairs in zip(made.banks(), seen, strict=True):
        keys = pairs.query[:8] if name == "SimCLR" else pairs.positive
        torch.testing.assert_close(bank.rows.keys[:8], keys.detach())
        assert bank.rows.index[:8].tolist() == list(range(3, 11))


def embeddings() -> Tensor:
    rows = torch.randn(3, 2, SAMPLES, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(rows, dim=-1)


def steps(rows: slice) -> dict[str, tuple[Tensor, ...]]:
    """Three steps of some of the rows with each mining: losses, gradients, and what the bank then holds."""
    from contrast import in_batch_pairs
    from contrast.methods.offered import with_offered

    index = torch.arange(SAMPLES)[rows]
    found: dict[str, tuple[Tensor, ...]] = {}
    for mining, per_sample in itertools.product((Hardest(6), Stratified(2, 3, 4, pool=10)), (False, True)):
        bank = FaissBank(5, SAMPLES, per_sample, mining, warmup_steps=2)
        for step, inputs in enumerate(embeddings()[:, :, rows]):
            first, second = inputs.requires_grad_()
            pairs = in_batch_pairs(first, second, index)
            offered = bank.negatives(pairs.query.detach(), pairs.index)
            output = ContrastiveLoss(InfoNCE(), 0.2)(with_offered(pairs, [offered]))
            (gradient,) = torch.autograd.grad(output.loss, [inputs])
            bank.store(second.detach().float(), index)
            found[f"{mining} {per_sample} {step}"] = (output.loss.detach(), gradient)
        order = bank.rows.index.argsort()
        found[f"bank of {mining} {per_sample}"] = (bank.rows.keys[order], bank.rows.index[order])
    return found


def work(rank: int, parts: list[slice], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(parts))
    torch.save(steps(parts[rank]), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_processes_equal_one(tmp_path: Path) -> None:
    parts = [slice(0, 9), slice(9, SAMPLES)]
    multiprocessing.spawn(work, args=(parts, str(tmp_path)), nprocs=2)
    many = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, expected in steps(slice(0, SAMPLES)).items():
        if name.startswith("bank"):
            for each in many:
                torch.testing.assert_close(each[name], expected, msg=name)
        else:
            losses, gradients = zip(*(each[name] for each in many), strict=True)
            torch.testing.assert_close(torch.stack(losses).mean(), expected[0], rtol=1e-6, atol=1e-7, msg=name)
            torch.testing.assert_close(torch.cat(gradients, 1) / 2, expected[1], rtol=1e-5, atol=1e-7, msg=name)


@pytest.mark.parametrize("name", ["SimCLR", "MoCo"])
def test_a_bank_of_every_sample_trains_from_the_command_line(name: str, tmp_path: Path) -> None:
    bank = ["--model.bank", "FaissBank", "--model.bank.size", 96, "--model.bank.per_sample", "true"]
    mining = ["--model.bank.mining", "Stratified", "--model.bank.mining.hardest", 8, "--model.bank.mining.semi_hard", 4]
    flags = [*mining, "--model.bank.mining.random", 4, "--model.bank.mining.pool", 32, "--model.bank.warmup_steps", 2]
    assert pretrain(tmp_path / "run", "--model", name, *bank, *flags) == 0


def test_a_bank_with_too_few_rows_for_one_a_sample_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bank = ["--model.bank", "FaissBank", "--model.bank.size", 95, "--model.bank.per_sample", "true"]
    assert pretrain(tmp_path / "run", "--model", "MoCo", *bank) == 2
    assert "set --model.bank.size 96" in capfd.readouterr().err
