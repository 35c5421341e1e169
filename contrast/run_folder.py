"""The run folder: where a run keeps everything, and the only thing that reports and evaluations need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from contrast.errors import InputError

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run's folder.

    Layout::

        config.yaml            the resolved configuration as of now; starts the same run again
        history.jsonl          append-only: which settings changed at which step, if any did
        status.json            where the run is: running or how it ended, and its step
        input.json             statistics of some raw samples, taken when the run started
        inactive.json          the pieces that never act in a run of this length, written at each start
        metrics.jsonl          append-only scalars, one row a logged step
        metrics.csv            the same as a table, derived
        scores.jsonl           append-only: what positives and negatives do, one row an observed step
        pairs/*.safetensors    every sample's loss and positive score, of some epochs
        gallery.jsonl          append-only: pairs that stand out and queries with their hardest negatives
        gallery/*.png          their pictures
        flagged.jsonl          append-only: the samples that bad-pair mining flagged, one row an epoch
        bank.jsonl             append-only: ages, recall and freshness of a memory bank's keys
        checkpoints/*.ckpt     last.ckpt, previous.ckpt, the one before it, and what was asked for
        features/              cached features, keyed by checkpoint, data and transform
        evaluations/*.json     results of `contrast probe` and `contrast knn`, each with its protocol
        duplicates/            what `contrast duplicates` found, and pictures of it
        export/                what `contrast export` wrote
        report.html            what `contrast report` wrote
        summary.json           the demo's table
        wandb.json             the run's id at W&B, and how often it was started
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))  # a text does as well

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
        """The files of rows that training appends to."""
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

        Raises:
            InputError: where there is no such folder or it holds no config.yaml.
        """
        folder = cls(Path(path))
        if not folder.path.is_dir():
            raise InputError(f"no run folder {str(path)!r}: give the folder that `contrast pretrain` printed")
        if not folder.config.is_file():
            raise InputError(f"{str(path)!r} is no run folder: it holds no config.yaml")
        return folder
