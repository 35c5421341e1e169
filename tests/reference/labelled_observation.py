"""What SupCon and LOOK make of their queries, by loops over every row: which are negatives, and their gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from contrast import Pairs
from contrast.losses import LOOK, SupCon
from tests.reference.observation import Negative, Query, at_random, same_class


def labelled_queries_of(loss: SupCon | LOOK, pairs: Pairs, classes: Tensor, labels: Tensor | None) -> list[Query]:
    """Every query of pairs without heads, at a fixed temperature.

    Args:
        loss: which of the two, with how many neighbours.
        pairs: without own negatives.
        classes: of the training samples, as the loss knows them.
        labels: as the observer knows them.
    """
    found = []
    for i, own in enumerate(pairs.index.tolist()):
        of = pairs.negative_index.tolist()
        left = [] if pairs.excluded is None else pairs.excluded[i].tolist()
        offered = [j for j in range(len(of)) if j not in left and not (own >= 0 and of[j] == own)]
        score = torch.stack([pairs.query[i] @ row for row in pairs.negatives])
        logit = (score / loss.temperature.value).detach().requires_grad_()
        plus = pairs.query[i] @ pairs.positive[i]
        positive = (plus / loss.temperature.value).detach().requires_grad_()
        alike = [j for j in offered if of[j] >= 0 and classes[own] >= 0 and classes[of[j]] == classes[own]]
        if isinstance(loss, SupCon):
            value = sup_con(positive, logit, offered, alike)
            negatives = [j for j in offered if j not in alike]
        else:
            voting = [j for j in offered if of[j] >= 0 and classes[of[j]] >= 0 and not placeholder(pairs, j)]
            near = sorted(voting, key=lambda j: -float(score[j]))[: loss.neighbours]
            alike = [j for j in voting if j in alike]
            kept = [j for j in near if j in alike] or sorted(alike, key=lambda j: -float(score[j]))[:1]
            negatives = [j for j in near if j not in alike]
            value = look(positive, logit, kept, negatives)
        gradient, pull = torch.autograd.grad(value, [logit, positive], allow_unused=True, materialize_grads=True)
        met = [
            Negative(float(score[j]), logit[j].item(), "shared", "placeholder" if placeholder(pairs, j) else "shared",
                     abs(float(gradient[j])), same_class(labels, own, [of[j]]))
            for j in negatives
        ]  # fmt: skip
        real, start = ([each for each in met if (each.kind == "placeholder") == is_start] for is_start in (False, True))
        found.append(Query(float(plus), positive.item(), abs(float(pull)), real, start, at_random(labels, own)))
    return found


def sup_con(positive: Tensor, logit: Tensor, offered: list[int], alike: list[int]) -> Tensor:
    everyone = positive.exp() + sum(logit[j].exp() for j in offered)
    return -sum((each.exp() / everyone).log() for each in [positive, *(logit[j] for j in alike)]) / (1 + len(alike))


def look(positive: Tensor, logit: Tensor, kept: list[int], negatives: list[int]) -> Tensor:
    same = sum(logit[j].exp() for j in kept) if kept else positive.exp()
    return -(same / (same + sum(logit[j].exp() for j in negatives))).log()


def placeholder(pairs: Pairs, j: int) -> bool:
    return pairs.placeholder is not None and bool(pairs.placeholder[j])
