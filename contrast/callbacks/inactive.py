"""The pieces that never act in a run of this length, said once at the start."""

from __future__ import annotations

import json
import sys

import lightning
from tqdm.auto import tqdm

from contrast.banks import MemoryBank
from contrast.methods import ContrastiveMethod
from contrast.run_folder import RunFolder
from contrast.run_length import MayStartLate
from contrast.whole_file import whole_file

__all__ = ["Inactive"]


class Inactive(lightning.Callback):
    """A line on standard error, and an entry of ``inactive.json``, for each piece that starts after the run's end.

    The loss's pieces, the banks, the schedule and the callbacks are asked (`MayStartLate`). The file is written again
    whenever the run is resumed, so that a run which is extended is judged by its new length; the doctor and the report
    read it.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(pl_module, ContrastiveMethod):
            return
        run = pl_module.run_length()
        callbacks = [each for each in trainer.callbacks if isinstance(each, MayStartLate)]  # type: ignore[attr-defined]
        found: dict[str, dict[str, str | bool]] = {}
        for piece in (*pl_module.pieces_that_may_start_late(), *callbacks):
            reason = piece.never_acts(run)
            if reason is not None:  # several banks of one size say the same
                bank = isinstance(piece, MemoryBank)
                found[reason] = {"piece": type(piece).__name__, "reason": reason, "bank": bank}
        content = {"steps": run.steps, "epochs": run.epochs, "pieces": list(found.values())}
        with whole_file(self.folder.inactive) as part:
            part.write_text(json.dumps(content) + "\n")
        for reason in found:
            tqdm.write(f"note    {reason}", file=sys.stderr)
