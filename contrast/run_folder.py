"""Layout of a run folder: a run writes all its files there, and reports and evaluations read nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contrast.errors import InputError

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files in one run's folder.

    Layout::

        config.yaml            the resolved configuration, as it is now; starts the same run again
        history.jsonl          append-only: settings that changed at a resume, and at which step
        status.json            state of the run: running or how it ended, and its step
        input.json             statistics of some raw samples, measured at the start of the run
        inactive.json          components that never become active in a run of this length, written at each start
        metrics.jsonl          append-only scalars, one row per logged step
        metrics.csv            the same scalars as a table, derived from metrics.jsonl
        scores.jsonl           append-only: statistics of positive and negative scores, one row per observed step
        pairs/*.safetensors    loss and positive score of every sample, for some epochs
        gallery.jsonl          append-only: pairs that stand out, and queries with their hardest negatives
        gallery/*.png          pictures of the samples in gallery.jsonl
        flagged.jsonl          append-only: samples that bad-pair mining flagged, one row per epoch
        bank.jsonl             append-only: ages, recall and freshness of a memory bank's keys
        checkpoints/*.ckpt     last.ckpt, the one before it as previous.ckpt, and the checkpoints that were requested
        features/              cached features, keyed by checkpoint, data and transform
        evaluations/*.json     results of `contrast probe` and `contrast knn`, each with its protocol
        duplicates/            results of `contrast duplicates`, with pictures
        export/                files written by `contrast export`
        report.html            page written by `contrast report`
        summary.json           table of results of `contrast demo`
        wandb.json             id of the run at W&B, and number of times the run was started

    Attributes:
        path: the run folder; a string is converted to a `Path`.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))  # accepts a string too

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def history(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def status(self) -> Path:
        return self.path / "status.json"

    @property
    def input(self) -> Path:
        return self.path / "input.json"

    @property
    def inactive(self) -> Path:
        return self.path / "inactive.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def metrics_table(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def scores(self) -> Path:
        return self.path / "scores.jsonl"

    @property
    def pairs(self) -> Path:
        return self.path / "pairs"

    @property
    def gallery(self) -> Path:
        return self.path / "gallery.jsonl"

    @property
    def pictures(self) -> Path:
        return self.path / "gallery"

    @property
    def flagged(self) -> Path:
        return self.path / "flagged.jsonl"

    @property
    def bank(self) -> Path:
        return self.path / "bank.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.ckpt"

    @property
    def previous_checkpoint(self) -> Path:
        return self.checkpoints / "previous.ckpt"

    @property
    def records(self) -> tuple[Path, ...]:
        """The append-only record files (JSON lines) that training writes."""
        return (self.metrics, self.scores, self.gallery, self.flagged, self.bank)

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def features(self) -> Path:
        return self.path / "features"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations"

    @property
    def duplicates(self) -> Path:
        return self.path / "duplicates"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def wandb(self) -> Path:
        return self.path / "wandb.json"

    @classmethod
    def existing(cls, path: Path | str) -> RunFolder:
        """The folder of a run that has started.

        Args:
            path: the run folder.

        Raises:
            InputError: if the folder does not exist or has no config.yaml.
        """
        folder = cls(Path(path))
        if not folder.path.is_dir():
            raise InputError(f"no run folder {str(path)!r}: give the folder that `contrast pretrain` printed")
        if not folder.config.is_file():
            raise InputError(f"{str(path)!r} is not a run folder: it has no config.yaml")
        return folder
