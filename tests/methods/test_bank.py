"""MoCo and SimCLR with a bank of nearest keys, in one process and in several."""

from __future__ import annotations

import itertools
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

from contrast import in_batch_pairs
from contrast.banks import FaissBank, Hardest, Stratified
from contrast.losses import ContrastiveLoss, InfoNCE
from contrast.methods import MoCo, SimCLR
from contrast.models import ConvNet, LinearHead, MultiHead
from contrast.pairs import MINED
from tests.commands.running import SMALL, pretrain
from tests.methods.small_methods import batch

HEAD = partial(LinearHead, output_width=8)
HEADS = {"one head": HEAD, "two heads": lambda width: MultiHead(width, HEAD, 2)}
METHODS = {"SimCLR": SimCLR, "MoCo": MoCo, "MoCo v2+": partial(MoCo, symmetric=True)}
SAMPLES = 24
ROOT = Path(__file__).resolve().parents[2]


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
        assert pairs.own_negative_kind.tolist() == [MINED] * 5


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


@pytest.mark.parametrize("name", METHODS)
def test_while_it_warms_up_its_rows_are_shared_and_known_by_sample(name: str) -> None:
    made = filled(name, warmup_steps=3)
    for bank, pairs in zip(made.banks(), made.pairs(batch(5, start=4)), strict=True):
        assert pairs.own_negatives is None
        assert not pairs.placeholder.any()
        rows, of = pairs.negatives[-5:], pairs.negative_index[-5:]
        assert torch.equal(rows, bank.rows.keys[of])  # sample s is in row s: 16 samples came in order


def embeddings() -> Tensor:
    rows = torch.randn(3, 2, SAMPLES, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(rows, dim=-1)


def steps(rows: slice, storage: str, sharded: bool = False) -> dict[str, tuple[Tensor, ...]]:
    """Three steps of some of the rows with each mining: losses, gradients, and what the bank then holds."""
    index = torch.arange(SAMPLES)[rows]
    found: dict[str, tuple[Tensor, ...]] = {}
    for mining, per_sample in itertools.product((Hardest(6), Stratified(2, 3, 4, pool=10)), (False, True)):
        # Fewer rows than keys where it is first in first out, so that they wrap round.
        bank = FaissBank(
            5, SAMPLES if per_sample else 35, per_sample, mining, warmup_steps=2, storage=storage, sharded=sharded
        )
        bank.begin(SAMPLES)
        for step, inputs in enumerate(embeddings()[:, :, rows]):
            first, second = inputs.requires_grad_()
            pairs = in_batch_pairs(first, second, index)
            offered = bank.negatives(pairs.query.detach(), pairs.index)
            output = ContrastiveLoss(InfoNCE(), 0.2)(pairs.with_bank([offered]))
            (gradient,) = torch.autograd.grad(output.loss, [inputs])
            bank.store(second.detach().float(), index)
            found[f"{mining} {per_sample} {step}"] = (output.loss.detach(), gradient)
        found[f"bank of {mining} {per_sample}"] = bank.state_dict()
        resumed = FaissBank(5, bank.size, per_sample, mining, storage=storage, sharded=sharded)
        resumed.begin(SAMPLES)
        resumed.load_state_dict(_of_the_first(bank.state_dict()))
        for name, buffer in bank.named_buffers():
            assert torch.equal(buffer, resumed.get_buffer(name)), name
    return found


def _of_the_first(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a checkpoint holds: the first process's state."""
    if not dist.is_initialized():
        return state
    sent = [state]
    dist.broadcast_object_list(sent)
    return sent[0]


def work(rank: int, parts: list[slice], storage: str, sharded: bool, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(parts))
    torch.save(steps(parts[rank], storage, sharded), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("cuts", "storage", "sharded"),
    [
        ([0, 9, SAMPLES], "float32", False),
        ([0, 9, SAMPLES], "float32", True),
        ([0, 9, SAMPLES], "float16", True),
        pytest.param([0, 5, 12, 17, SAMPLES], "float32", True, marks=pytest.mark.slow),
    ],
    ids=["2, all keep all", "2, sharded", "2, sharded, half precision", "4, sharded"],
)
def test_processes_equal_one(cuts: list[int], storage: str, sharded: bool, tmp_path: Path) -> None:
    parts = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    multiprocessing.spawn(work, args=(parts, storage, sharded, str(tmp_path)), nprocs=len(parts))
    many = [torch.load(tmp_path / f"{rank}.pt") for rank in range(len(parts))]
    for name, expected in steps(slice(0, SAMPLES), storage).items():
        if name.startswith("bank"):
            for each in many[: 1 if sharded else None]:
                torch.testing.assert_close(each[name], expected, msg=name)
            assert not sharded or len(many[1][name]["rows.keys"]) < len(expected["rows.keys"])
        else:
            losses, gradients = zip(*(each[name] for each in many), strict=True)
            torch.testing.assert_close(torch.stack(losses).mean(), expected[0], rtol=1e-6, atol=1e-7, msg=name)
            gradient = torch.cat(gradients, 1) / len(parts)
            torch.testing.assert_close(gradient, expected[1], rtol=1e-5, atol=1e-7, msg=name)


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


def test_a_sharded_bank_is_whole_in_the_checkpoint_and_after_it(tmp_path: Path) -> None:
    first = [*SMALL, "--model", "MoCo", "--run", str(tmp_path / "run")]
    spread = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    bank = ["--model.bank", "FaissBank", "--model.bank.size", "96", "--model.bank.per_sample", "true"]
    flags = ["--model.bank.sharded", "true", "--model.bank.mining.count", "8", "--data.batch_size", "16"]
    # Three steps an epoch; the second epoch goes on from the first one's checkpoint.
    for epochs, words in ((1, [*first, *spread, *bank, *flags]), (2, ["--resume", str(tmp_path / "run")])):
        run = [sys.executable, "-m", "contrast", "pretrain", *words, "--trainer.max_epochs", str(epochs)]
        done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        state = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        keys, index, written = (state[f"queues.0.rows.{name}"] for name in ("keys", "index", "written"))
        torch.testing.assert_close(keys.norm(dim=1), torch.ones(96))
        assert sorted(index.tolist()) == list(range(96))
        assert int(written.max()) == 3 * epochs - 1
        # Each row is a key of its own: a part that another overwrote would be there twice.
        assert len(keys.unique(dim=0)) > 90
