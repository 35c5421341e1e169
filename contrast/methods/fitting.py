"""What goes with what when a method is built: a predictor with its head, a loss with the pairs that there will be."""

from __future__ import annotations

from contrast.errors import InputError
from contrast.losses import Loss
from contrast.methods.contrastive_method import HeadFactory
from contrast.models import Head

__all__ = ["build_predictor", "refuse_losses"]


def build_predictor(owner: str, head: Head, factory: HeadFactory, several: bool = False) -> Head:
    """The predictor, from embeddings to embeddings of the same width.

    Args:
        owner: the method, for messages.
        head: whose output it takes.
        factory: makes it from that output's width.
        several: whether the predictor may have several heads; the projection head may not.

    Raises:
        InputError: for several heads where there may be one, and for a predictor of another width.
    """
    if head.head_count is not None:
        raise InputError(f"{owner} takes one projection head, not a MultiHead: use --model SimCLR or MoCo for several")
    predictor = factory(head.output_width)
    if predictor.head_count is not None and not several:
        raise InputError(f"{owner} takes one predictor, not a MultiHead: SimSiam's may have several heads")
    if predictor.output_width != head.output_width:
        raise InputError(
            f"{owner}'s predictor has output_width {predictor.output_width} and its head {head.output_width}, which "
            "are to be compared: make them equal"
        )
    return predictor


def refuse_losses(owner: str, loss: Loss, kinds: tuple[type[Loss], ...], reason: str) -> None:
    """Refuse, in one line, a loss that would learn nothing from the method's pairs."""
    if isinstance(loss, kinds):
        raise InputError(f"{owner} cannot host {type(loss).__name__}: {reason}")
