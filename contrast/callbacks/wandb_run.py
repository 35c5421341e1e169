"""One run at W&B for one run folder, however often it is started."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from contrast.callbacks.logger_calls import attempt, guard
from contrast.errors import InputError, did_you_mean
from contrast.records import every_row, read_object
from contrast.run_folder import RunFolder
from contrast.runs.files import whole_file

__all__ = ["attach_report", "closed_at_the_end", "go_on", "open_run", "with_id"]

_STAGING, _MODE = "WANDB_DATA_DIR", "WANDB_MODE"
_MODES = ("disabled", "online", "offline", "dryrun", "run", "shared")
_REFUSALS = ("UsageError", "AuthenticationError", "UnsupportedError")  # of wandb.errors, which is imported late
_NOT_IN_AN_ID = ":;,#?/'\\"


def with_id(logger: Any, folder: RunFolder) -> Any:
    """The setting `trainer.logger` with the run's own id and name in it, where it is W&B's; any other as it is.

    The id is kept in the run folder, with how often the run was started. One that the configuration gives is kept too.
    Where the environment has ``WANDB_MODE=disabled`` a logger of W&B's is left out.

    Raises:
        InputError: for an id that W&B does not take, and a ``WANDB_MODE`` that it does not know.
    """
    if isinstance(logger, list):
        return [found for each in logger if (found := with_id(each, folder)) is not None]
    if not isinstance(logger, dict) or not str(logger.get("class_path")).endswith(".WandbLogger"):
        return logger
    mode = _mode()
    if getattr(rank_zero_only, "rank", 0) != 0:  # only the first process talks to W&B
        return None if mode == "disabled" else logger
    if mode == "disabled":
        print(f"note    {_MODE}=disabled in the environment: W&B is left out", file=sys.stderr)
        return None
    given, kept = logger.get("init_args") or {}, _kept(folder)
    if mode == "online" and given.get("offline"):
        online = "the configuration says offline, and stays so: --trainer.logger.init_args.offline false sends"
        print(f"note    {_MODE}=online in the environment, but {online}", file=sys.stderr)
    own = given.get("version") or given.get("id") or kept.get("id") or secrets.token_hex(4)
    _require_id(own)
    with whole_file(folder.wandb) as part:
        part.write_text(json.dumps({"id": own, "starts": kept.get("starts", 0) + 1}) + "\n")
    ours = {"id": own, "name": given.get("name") or folder.path.resolve().name}
    if "resume" in given and not any(given.get(name) for name in ("resume", "resume_from", "fork_from")):
        ours["resume"] = "allow"  # Lightning's own default, which a configuration that spells out every argument undoes
    return {**logger, "init_args": {**given, **ours}}


def _mode() -> str:
    mode = os.environ.get(_MODE, "")
    if mode and mode not in _MODES:
        known = did_you_mean(mode, _MODES)
        raise InputError(
            f"{_MODE}={mode} in the environment is no mode of W&B's{known}; unset it, or give one of these"
        )
    return mode


def _require_id(own: object) -> None:
    unfit = sorted(set(str(own)) & set(_NOT_IN_AN_ID))
    if unfit or not str(own).strip():
        raise InputError(
            f"trainer.logger: W&B takes no id {own!r}: give letters, digits, - and _"
            + (f", without {' '.join(unfit)}" if unfit else "")
        )


def open_run(logger: Logger) -> None:
    """Start W&B's run before training does, so that a wrong setting is refused; of another logger this does nothing.

    A failure that is not the user's, say a server that does not answer, is the guarded logger's to report.

    Args:
        logger: any logger that `contrast.callbacks.logger_calls.guard` has not seen yet.

    Raises:
        InputError: for settings that W&B refuses, and for an online run without an API key.
    """
    if not isinstance(logger, WandbLogger):
        return
    try:
        with _nobody_to_ask():
            _ = logger.experiment
    except Exception as error:
        if isinstance(error, ValueError | TypeError) or type(error).__name__ in _REFUSALS:
            raise InputError(_refusal(error)) from error
        guard(logger)
        attempt(logger, "experiment", partial(_raise, error))


def _raise(error: Exception) -> None:
    raise error


def _refusal(error: Exception) -> str:
    """What W&B says of its settings, with where they are from and the fix."""
    said = " ".join(str(error).split())
    if "API key" in said and os.environ.get("WANDB_API_KEY"):
        return (
            "trainer.logger: W&B does not take the API key in WANDB_API_KEY: correct it, or stay offline with "
            "--trainer.logger.init_args.offline true"
        )
    if "API key" in said:
        return (
            "trainer.logger: W&B is online and no API key is configured: run `wandb login`, set WANDB_API_KEY, or stay "
            "offline with --trainer.logger.init_args.offline true"
        )
    details = getattr(error, "errors", None)
    wrong = details() if callable(details) else []
    if not wrong:
        return f"trainer.logger: W&B refuses its settings: {said[:300]}"
    name, value = ".".join(map(str, wrong[0].get("loc", ()))), wrong[0].get("input")
    variable = f"WANDB_{name.upper()}"
    where = (
        f"{variable}={value!r} in the environment" if variable in os.environ else f"trainer.logger: {name} {value!r}"
    )
    return f"{where} is refused by W&B ({str(wrong[0].get('msg')).rstrip('.')}): correct it, or leave it out"


@contextlib.contextmanager
def _nobody_to_ask() -> Iterator[None]:
    """While this lasts there is no terminal to read from: W&B would ask for an account and wait."""
    before = sys.stdin
    with open(os.devnull) as sys.stdin:
        try:
            yield
        finally:
            sys.stdin = before


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
            _finish(run, int(failed))
        if before is None:
            del os.environ[_STAGING]


def _finish(run: Any, exit_code: int) -> None:
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:  # of any kind: W&B's own process may have been killed
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
        closed = f"warning W&B did not close its run ({said}): the run folder is whole, W&B's files may be cut"
        print(closed, file=sys.stderr)
        with contextlib.suppress(Exception):
            sys.modules["wandb"].teardown(exit_code)  # else W&B tries once more when Python exits, with a traceback


def _running() -> Any:
    """W&B's run of this process; without importing W&B, which takes a second."""
    wandb = sys.modules.get("wandb")
    return None if wandb is None else getattr(wandb, "run", None)


def _kept(folder: RunFolder) -> dict[str, Any]:
    return read_object(folder.wandb) or {}
