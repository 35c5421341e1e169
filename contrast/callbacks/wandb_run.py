"""One run at W&B for one run folder, however often it is started."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from contrast.records import every_row
from contrast.run_folder import RunFolder
from contrast.whole_file import whole_file

__all__ = ["attach_report", "closed_at_the_end", "go_on", "with_id"]

_STAGING = "WANDB_DATA_DIR"


def with_id(logger: Any, folder: RunFolder) -> Any:
    """The setting `trainer.logger` with the run's own id and name in it, where it is W&B's; any other as it is.

    The id is kept in the run folder, with how often the run was started. One that the configuration gives is kept too.
    """
    if isinstance(logger, list):
        return [with_id(each, folder) for each in logger]
    if not isinstance(logger, dict) or not str(logger.get("class_path")).endswith(".WandbLogger"):
        return logger
    if getattr(rank_zero_only, "rank", 0) != 0:  # only the first process talks to W&B
        return logger
    given, kept = logger.get("init_args") or {}, _kept(folder)
    own = given.get("version") or given.get("id") or kept.get("id") or secrets.token_hex(4)
    with whole_file(folder.wandb) as part:
        part.write_text(json.dumps({"id": own, "starts": kept.get("starts", 0) + 1}) + "\n")
    ours = {"id": own, "name": given.get("name") or folder.path.resolve().name}
    if "resume" in given and not any(given.get(name) for name in ("resume", "resume_from", "fork_from")):
        ours["resume"] = "allow"  # Lightning's own default, which a configuration that spells out every argument undoes
    return {**logger, "init_args": {**given, **ours}}


def go_on(run: Any, folder: RunFolder, step: int) -> None:
    """Let a resumed run log after what was logged before.

    W&B numbers what is logged and drops a number that it has. Its server tells a resumed run where to go on; offline
    nobody does, and every start would begin at 0. Each row of scalars and of the gallery is logged once, and each start
    may leave one more row at its end, and one cut line.

    Args:
        run: W&B's.
        folder: the run folder.
        step: of training.
    """
    starts = _kept(folder).get("starts", 1)
    if starts > 1 and not run.starting_step:
        logged = len(every_row(folder.metrics)) + len(every_row(folder.gallery)) + 2 * starts
        run.log({"trainer/global_step": step}, step=logged)


def attach_report(run: Any, folder: RunFolder) -> None:
    """The report page as it is now, as an artifact of W&B's run."""
    import wandb  # only where a run asked for it: importing them takes seconds

    from contrast.report import build_page, read_runs

    artifact = wandb.Artifact(f"report-{run.id}", type="report", description="contrast report, one self-contained page")
    with artifact.new_file("report.html", encoding="utf-8") as file:
        file.write(build_page(read_runs([folder])))
    run.log_artifact(artifact)


@contextlib.contextmanager
def closed_at_the_end(folder: RunFolder) -> Iterator[None]:
    """What W&B stages until it is sent stays in the run folder, and its run ends when ours does.

    Else it would be staged in the user's home, and a second run of this process would be logged as part of the first.
    A run of W&B that was there before is somebody else's, and left open.
    """
    before, theirs = os.environ.get(_STAGING), _running()
    if before is None:
        os.environ[_STAGING] = str(folder.path.resolve() / "wandb")
    failed = True
    try:
        yield
        failed = False
    finally:
        run = _running()
        if run is not None and theirs is None:
            run.finish(exit_code=int(failed))
        if before is None:
            del os.environ[_STAGING]


def _running() -> Any:
    """W&B's run of this process; without importing W&B, which takes a second."""
    wandb = sys.modules.get("wandb")
    return None if wandb is None else getattr(wandb, "run", None)


def _kept(folder: RunFolder) -> dict[str, Any]:
    try:
        kept = json.loads(folder.wandb.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return kept if isinstance(kept, dict) else {}
