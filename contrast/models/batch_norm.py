"""Batch normalisation over parts of a batch, as MoCo's shuffling batch norm has it."""

from __future__ import annotations

from typing import TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from contrast.checks import checked, require_positive
from contrast.errors import InputError

__all__ = ["SplitBatchNorm1d", "SplitBatchNorm2d", "refuse_synchronised", "split_batch_norm"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@checked
def split_batch_norm(module: ModuleT, groups: int) -> ModuleT:
    """Have every BatchNorm1d and BatchNorm2d in `module` normalise `groups` equal parts of a batch, each on its own.

    In training part g of the batch (rows g·n/groups and on) is normalised by its own mean and variance, and the running
    statistics move to the mean over the parts; in evaluation nothing changes. The stand-in on one device for batch norm
    on several, without which MoCo's queries and keys could tell each other by the statistics they share.

    Source: MoCo's CIFAR-10 notebook (``SplitBatchNorm``, 8 groups), which puts every groups-th row into a part
    instead of neighbouring ones: the same thing for a batch in random order.

    Args:
        module: changed in place; parameters, buffers and the names in its state dict stay.
        groups: number of parts, which must divide every training batch; 1 gives ordinary batch norm.

    Returns:
        `module` itself.

    Raises:
        InputError: where `groups` is below 1, or a batch norm is of another class, whose forward is not known here;
            in training, where a batch has no `groups` equal parts.

    Example:
        >>> net = split_batch_norm(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), groups=2)
        >>> net(torch.randn(6, 3)).unflatten(0, (2, 3)).mean(1).abs().max().item() < 1e-6
        True
    """
    require_positive("split_batch_norm", "groups", groups)
    norms = [each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        if type(norm) not in _SPLIT:
            raise InputError(
                f"batch norm of class {type(norm).__name__} cannot be split: use a backbone with nn.BatchNorm"
            )
    for norm in norms:
        # The class alone changes, so that everything that holds the module, its parameters or its hooks keeps them.
        norm.__class__ = _SPLIT[type(norm)]
        cast(_Split, norm).groups = groups
    return module


def refuse_synchronised(model: nn.Module, synchronised: object) -> None:
    """Refuse ``trainer.sync_batchnorm`` for a model with split batch norms: Lightning would replace them.

    Raises:
        InputError: where both are asked for.
    """
    groups = next((each.groups for each in model.modules() if isinstance(each, _Split)), None)
    if synchronised and groups is not None:
        raise InputError(
            f"trainer.sync_batchnorm true would take away the split batch norm of {groups} groups: add "
            "--trainer.sync_batchnorm false, or set --model.batch_norm_groups 1"
        )


class _Split(nn.modules.batchnorm._BatchNorm):
    groups: int

    def forward(self, input: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        if not self.training:
            return super().forward(input)
        if len(input) % self.groups:
            raise InputError(
                f"a batch of {len(input)} has no {self.groups} equal parts for split batch norm: "
                "give a batch size that the number of groups divides"
            )
        parts = input.chunk(self.groups)
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return torch.cat(
                [batch_norm(part, None, None, self.weight, self.bias, True, eps=self.eps) for part in parts]
            )
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        means, variances = self.running_mean.repeat(self.groups, 1), self.running_var.repeat(self.groups, 1)
        normalised = [
            batch_norm(part, mean, variance, self.weight, self.bias, True, momentum, self.eps)
            for part, mean, variance in zip(parts, means, variances, strict=True)
        ]
        if momentum > 0:  # the mean of equal numbers need not be one of them
            self.running_mean.copy_(means.mean(0))
            self.running_var.copy_(variances.mean(0))
        return torch.cat(normalised)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, groups={self.groups}"


class SplitBatchNorm1d(_Split, nn.BatchNorm1d):
    """BatchNorm1d over parts of a batch; made by `split_batch_norm`."""


class SplitBatchNorm2d(_Split, nn.BatchNorm2d):
    """BatchNorm2d over parts of a batch; made by `split_batch_norm`."""


_SPLIT: dict[type[nn.Module], type[_Split]] = {
    nn.BatchNorm1d: SplitBatchNorm1d,
    nn.BatchNorm2d: SplitBatchNorm2d,
    SplitBatchNorm1d: SplitBatchNorm1d,
    SplitBatchNorm2d: SplitBatchNorm2d,
}
