"""Split batch normalisation: separate statistics for each part of a batch, a substitute for MoCo's shuffling BN."""

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
    """Make every BatchNorm1d and BatchNorm2d in `module` normalise `groups` equal parts of a batch separately.

    In training, part g of the batch (rows g·n/groups and on) is normalised by its own mean and variance. The running
    statistics move towards the mean over the parts. Evaluation is unchanged.

    On one device this replaces batch norm on several devices. Without it, MoCo can match a query to its key by the
    batch statistics that both share.

    Args:
        module: changed in place. Its parameters, buffers and state dict names stay the same.
        groups: number of parts. It must divide the size of every training batch. 1 gives ordinary batch norm.

    Returns:
        `module` itself.

    Raises:
        InputError: if `groups` is below 1, or if a batch norm is of another class, whose forward pass is not known
            here. Later, in training: if a batch cannot be split into `groups` equal parts.

    Source: MoCo's CIFAR-10 notebook (``SplitBatchNorm``, 8 groups). There a part consists of every groups-th row; here
    it consists of neighbouring rows. For a batch in random order the two are equivalent.

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
        # Change only the class, so that references to the module, its parameters and its hooks stay valid.
        norm.__class__ = _SPLIT[type(norm)]
        cast(_Split, norm).groups = groups
    return module


def refuse_synchronised(model: nn.Module, synchronised: object) -> None:
    """Raise an error if ``trainer.sync_batchnorm`` is set for a model with split batch norm.

    Lightning would replace the split layers by synchronised ones.

    Args:
        model: any model.
        synchronised: value of ``trainer.sync_batchnorm``.

    Raises:
        InputError: if `synchronised` is true and the model has a split batch norm.
    """
    groups = next((each.groups for each in model.modules() if isinstance(each, _Split)), None)
    if synchronised and groups is not None:
        raise InputError(
            f"trainer.sync_batchnorm true would replace the split batch norm of {groups} groups: add "
            "--trainer.sync_batchnorm false, or set --model.batch_norm_groups 1"
        )


class _Split(nn.modules.batchnorm._BatchNorm):
    groups: int

    def forward(self, input: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        if not self.training:
            return super().forward(input)
        if len(input) % self.groups:
            raise InputError(
                f"a batch of {len(input)} cannot be split into {self.groups} equal parts for batch norm: "
                "give a multiple of the number of groups"
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
        if momentum > 0:  # at momentum 0, rounding in the mean would change the running statistics
            self.running_mean.copy_(means.mean(0))
            self.running_var.copy_(variances.mean(0))
        return torch.cat(normalised)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, groups={self.groups}"


class SplitBatchNorm1d(_Split, nn.BatchNorm1d):
    """BatchNorm1d that normalises each part of a batch separately; created by `split_batch_norm`."""


class SplitBatchNorm2d(_Split, nn.BatchNorm2d):
    """BatchNorm2d that normalises each part of a batch separately; created by `split_batch_norm`."""


_SPLIT: dict[type[nn.Module], type[_Split]] = {
    nn.BatchNorm1d: SplitBatchNorm1d,
    nn.BatchNorm2d: SplitBatchNorm2d,
    SplitBatchNorm1d: SplitBatchNorm1d,
    SplitBatchNorm2d: SplitBatchNorm2d,
}
