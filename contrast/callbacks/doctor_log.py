"""What the doctor finds while a run trains, said once."""

from __future__ import annotations

import sys

import lightning
from tqdm.auto import tqdm

from contrast.doctor import examine
from contrast.methods import ContrastiveMethod
from contrast.run_folder import RunFolder

__all__ = ["DoctorLog"]

_TIMES = 20
_TOLD_AT_THE_START = ("input-", "inactive")


class DoctorLog(lightning.Callback):
    """A line of the log for each finding of `contrast doctor`, when it first appears.

    It looks at some epochs' ends, about twenty of a run and the last: reading all rows takes as long as a few steps.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._said: set[str] = set()
        self._looks = 0

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(pl_module, ContrastiveMethod):
            return
        looks = int(pl_module.progress() * _TIMES)
        if looks == self._looks:
            return
        self._looks = looks
        for finding in examine(self.folder, progress=pl_module.progress()).findings:
            if finding.rule not in self._said and not finding.rule.startswith(_TOLD_AT_THE_START):
                self._said.add(finding.rule)
                # Beside the bar, not through it.
                tqdm.write(f"doctor  {finding.rule}: {finding.seen} {finding.mend}", file=sys.stderr)
