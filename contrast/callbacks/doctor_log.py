"""What the doctor finds while a run trains, said once."""

from __future__ import annotations

import sys

import lightning
from tqdm.auto import tqdm

from contrast.doctor import examine
from contrast.run_folder import RunFolder

__all__ = ["DoctorLog"]

_TIMES = 20


class DoctorLog(lightning.Callback):
    """A line of the log for each finding of `contrast doctor`, when it first appears.

    It looks at some epochs' ends, about twenty of a run and the last: reading all rows takes as long as a few steps.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._said: set[str] = set()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        done, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        if done == epochs or done % max(1, -(-epochs // _TIMES)) == 0:
            for finding in examine(self.folder, progress=done / epochs if epochs > 0 else None).findings:
                if finding.rule not in self._said:
                    self._said.add(finding.rule)
                    # Beside the bar, not through it.
                    tqdm.write(f"doctor  {finding.rule}: {finding.seen} {finding.mend}", file=sys.stderr)
