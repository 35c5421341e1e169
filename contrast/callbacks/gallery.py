"""Gallery of notable pairs: highest and lowest loss, flagged pairs, and queries with their hardest negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from contrast.callbacks.pair_history import EpochOfPairs, History, histories_of
from contrast.data import TrainingData
from contrast.losses import LogitLoss
from contrast.observation.hardness import HardNegative, hardest_negatives
from contrast.observation.sums import some_queries
from contrast.pairs import Pairs
from contrast.records import append_row
from contrast.run_folder import RunFolder
from contrast.runs.files import whole_file

__all__ = ["Gallery"]

_PAIRS, _QUERIES, _NEGATIVES = 12, 6, 8


class Gallery:
    """Write rows of ``gallery.jsonl`` and their pictures.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._queries: list[tuple[int, float, list[HardNegative]]] = []

    @torch.no_grad()
    def collect(self, loss: LogitLoss, pairs: Pairs) -> None:
        """Keep a few queries of a step with their hardest negatives.

        Args:
            loss: loss of the run.
            pairs: pairs after the transforms.
        """
        few = some_queries(pairs, _QUERIES, together=False)
        score = loss.logits(few)[0].score
        found = hardest_negatives(loss, few, _NEGATIVES)
        positive = score.flatten(0, -2)[0] if score.ndim > 1 else score
        self._queries = list(zip(few.index.tolist(), positive.tolist(), found, strict=True))

    def draw(self, data: TrainingData, pairs: EpochOfPairs, epoch: int, step: int) -> None:
        """Save pictures of the epoch's notable pairs and of the kept queries, and append the row.

        Args:
            data: the data module; it supplies the training samples.
            pairs: means of the epoch for each sample.
            epoch: number of the epoch, from 0.
            step: step of the run at the end of the epoch.
        """
        by_loss = pairs.loss if bool(pairs.loss.isfinite().any()) else -pairs.positive
        row: dict[str, Any] = {"step": step, "epoch": epoch}
        chosen = {"highest": _order(by_loss, descending=True), "lowest": _order(by_loss, descending=False)}
        flagged = pairs.flag.nonzero().flatten()
        if len(flagged):
            away = (by_loss - by_loss[by_loss.isfinite()].mean()).abs()[flagged]
            chosen["flagged"] = flagged[_order(away, descending=True)]
        shown, numbering = torch.cat(list(chosen.values())).tolist(), data.identity.numbering
        histories = histories_of(self.folder.pairs, shown, epoch, numbering)
        row["numbering"] = numbering
        for name, index in chosen.items():
            row[name] = self._pairs(data, pairs, index, epoch, histories)
        row["queries"] = [self._query(data, *each) for each in self._queries]
        self._queries = []
        append_row(self.folder.gallery, row)

    def _pairs(
        self,
        data: TrainingData,
        pairs: EpochOfPairs,
        index: Int[Tensor, " n"],
        epoch: int,
        histories: Mapping[int, History],
    ) -> list[dict[str, Any]]:
        if not len(index):
            return []
        views = data.views_of(index, epoch).inputs[:2]
        drawn = [data.view_pictures(each) for each in views]
        return [
            {
                **_known(data, sample),
                "loss": _number(pairs.loss[sample]),
                "positive": _number(pairs.positive[sample]),
                "weight": _number(pairs.weight[sample]),
                "flag": pairs.flag_of(sample),
                "pictures": [
                    self._save(side[place], f"{sample:07}-epoch-{epoch:05}-view-{number}.png")
                    for number, side in enumerate(drawn)
                ],
                "history": histories[sample],
            }
            for place, sample in enumerate(index.tolist())
        ]

    def _query(
        self, data: TrainingData, sample: int, positive: float, negatives: Sequence[HardNegative]
    ) -> dict[str, Any]:
        return {
            **_known(data, sample),
            "positive": round(positive, 5),
            "picture": self._sample(data, sample),
            "negatives": [
                {
                    **_known(data, each.index),
                    "score": round(each.score, 5),
                    "share": round(each.share, 6),
                    "kind": each.kind,
                    "picture": self._sample(data, each.index),
                }
                for each in negatives
            ],
        }

    def _sample(self, data: TrainingData, sample: int) -> str | None:
        if sample < 0:
            return None
        # The file name contains a checksum of the data: after a change of the data, the number may be another sample's.
        name = f"{sample:07}-{data.identity.numbering.rpartition('-')[2]}.png"
        if (self.folder.pictures / name).exists():
            return f"{self.folder.pictures.name}/{name}"
        return self._save(data.picture(data.train_set[sample][0]), name)

    def _save(self, picture: Image.Image, name: str) -> str:
        # Atomic write, because a picture that exists is not drawn again.
        with whole_file(self.folder.pictures / name) as part:
            picture.save(part, format="PNG")
        return f"{self.folder.pictures.name}/{name}"


def _order(values: Tensor, descending: bool) -> Tensor:
    """Positions of the first values in order; NaN and infinite values are left out."""
    there = values.isfinite().nonzero().flatten()
    return there[values[there].argsort(descending=descending, stable=True)[:_PAIRS]]


def _known(data: TrainingData, sample: int) -> dict[str, Any]:
    """Number, label, class name and file of a sample, as far as they exist."""
    labels, names = data.train_labels, data.sample_names("train")
    label = int(labels[sample]) if labels is not None and sample >= 0 and labels[sample] >= 0 else None
    found: dict[str, Any] = {"index": sample, "label": label}
    if (name := data.class_name(label)) is not None:
        found["class"] = name
    if names is not None and sample >= 0:
        found["path"] = names[sample]
    return found


def _number(value: Tensor) -> float | None:
    return round(float(value), 5) if bool(value.isfinite()) else None
