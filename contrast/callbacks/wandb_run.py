"""One W&B run per run folder, however often it is started."""

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
_REFUSALS = ("UsageError", "AuthenticationError", "UnsupportedError")  # classes in wandb.errors, imported late
_NOT_IN_AN_ID = ":;,#?/'\\"


def with_id(logger: Any, folder: RunFolder) -> Any:
    """Add the run's own W&B id and name to the setting `trainer.logger`.

    Settings of other loggers are returned unchanged. The id is stored in the run folder, together with the number of
    starts. An id from the configuration is stored as well. With ``WANDB_MODE=disabled`` in the environment, a W&B
    logger is removed.

    Args:
        logger: the setting `trainer.logger`.
        folder: the run folder.

    Raises:
        InputError: where W&B does not accept the id, or ``WANDB_MODE`` has an unknown value.
    """
    if isinstance(logger, list):
        return [found for each in logger if (found := with_id(each, folder)) is not None]
    if not isinstance(logger, dict) or not str(logger.get("class_path")).endswith(".WandbLogger"):
        return logger
    mode = _mode()
    if getattr(rank_zero_only, "rank", 0) != 0:  # only the first process connects to W&B
        return None if mode == "disabled" else logger
    if mode == "disabled":
        print(f"note    {_MODE}=disabled in the environment: W&B is turned off", file=sys.stderr)
        return None
    given, kept = logger.get("init_args") or {}, _kept(folder)
    if mode == "online" and given.get("offline"):
        online = "the configuration says offline and takes precedence: --trainer.logger.init_args.offline false sends"
        print(f"note    {_MODE}=online in the environment, but {online}", file=sys.stderr)
    own = given.get("version") or given.get("id") or kept.get("id") or secrets.token_hex(4)
    _require_id(own)
    with whole_file(folder.wandb) as part:
        part.write_text(json.dumps({"id": own, "starts": kept.get("starts", 0) + 1}) + "\n")
    ours = {"id": own, "name": given.get("name") or folder.path.resolve().name}
    if "resume" in given and not any(given.get(name) for name in ("resume", "resume_from", "fork_from")):
        ours["resume"] = "allow"  # Lightning's default, which a configuration that spells out every argument overrides
    return {**logger, "init_args": {**given, **ours}}


def _mode() -> str:
    mode = os.environ.get(_MODE, "")
    if mode and mode not in _MODES:
        known = did_you_mean(mode, _MODES)
        raise InputError(f"{_MODE}={mode} in the environment is not a W&B mode{known}; unset it, or give one of these")
    return mode


def _require_id(own: object) -> None:
    unfit = sorted(set(str(own)) & set(_NOT_IN_AN_ID))
    if unfit or not str(own).strip():
        raise InputError(
            f"trainer.logger: W&B does not accept the id {own!r}: give letters, digits, - and _"
            + (f", without {' '.join(unfit)}" if unfit else "")
        )


def open_run(logger: Logger) -> None:
    """Start the W&B run before training, so that wrong settings are refused early; other loggers are unchanged.

    The guarded logger reports failures that are not the user's mistake, such as a server that does not answer.

    Args:
        logger: logger that `contrast.callbacks.logger_calls.guard` has not seen yet.

    Raises:
        InputError: where W&B refuses the settings, or an online run has no API key.
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
    """W&B's error message about its settings, with the source of the setting and the fix."""
    text = " ".join(str(error).split())
    if "API key" in text and os.environ.get("WANDB_API_KEY"):
        return (
            "trainer.logger: W&B does not accept the API key in WANDB_API_KEY: correct it, or stay offline with "
            "--trainer.logger.init_args.offline true"
        )
    if "API key" in text:
        return (
            "trainer.logger: W&B is online and no API key is configured: run `wandb login`, set WANDB_API_KEY, or stay "
            "offline with --trainer.logger.init_args.offline true"
        )
    details = getattr(error, "errors", None)
    wrong = details() if callable(details) else []
    if not wrong:
        return f"trainer.logger: W&B refuses its settings: {text[:300]}"
    name, value = ".".join(map(str, wrong[0].get("loc", ()))), wrong[0].get("input")
    variable = f"WANDB_{name.upper()}"
    where = (
        f"{variable}={value!r} in the environment" if variable in os.environ else f"trainer.logger: {name} {value!r}"
    )
    return f"{where} is refused by W&B ({str(wrong[0].get('msg')).rstrip('.')}): correct it, or leave it out"


@contextlib.contextmanager
def _nobody_to_ask() -> Iterator[None]:
    """Replace stdin by an empty file, because W&B would ask for an account and wait."""
    before = sys.stdin
    with open(os.devnull) as sys.stdin:
        try:
            yield
        finally:
            sys.stdin = before


def go_on(run: Any, folder: RunFolder, step: int) -> None:
    """Let a resumed run log to W&B after the rows that it logged before.

    W&B numbers its rows and drops a row whose number it already has. Its server tells a resumed run the next number.
    Offline, every start would begin at 0. Each row of scalars and of the gallery is logged once, and each start may add
    one more row at its end, and one torn line.

    Args:
        run: the W&B run.
        folder: the run folder.
        step: training step.
    """
    starts = _kept(folder).get("starts", 1)
    if starts > 1 and not run.starting_step:
        logged = len(every_row(folder.metrics)) + len(every_row(folder.gallery)) + 2 * starts
        run.log({"trainer/global_step": step}, step=logged)


def attach_report(run: Any, folder: RunFolder) -> None:
    """Upload the current report page as an artifact of the W&B run.

    Args:
        run: the W&B run.
        folder: the run folder.
    """
    import wandb  # imported late: takes seconds

    from contrast.report import build_page, read_runs

    artifact = wandb.Artifact(f"report-{run.id}", type="report", description="contrast report, one self-contained page")
    with artifact.new_file("report.html", encoding="utf-8") as file:
        file.write(build_page(read_runs([folder])))
    run.log_artifact(artifact)


@contextlib.contextmanager
def closed_at_the_end(folder: RunFolder) -> Iterator[None]:
    """Context manager: keep W&B's staging files in the run folder, and close the W&B run when the training run ends.

    Otherwise W&B would stage files in the user's home, and a second run of this process would be logged as part of the
    first. A W&B run that was open before is left open.

    Args:
        folder: the run folder.
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
    except Exception as error:  # any exception: W&B's own process may have been killed
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
        closed = f"warning W&B did not close its run ({reason}): the run folder is complete, W&B's files may be cut off"
        print(closed, file=sys.stderr)
        with contextlib.suppress(Exception):
            sys.modules["wandb"].teardown(exit_code)  # else W&B retries when Python exits, with a traceback


def _running() -> Any:
    """The W&B run of this process, without importing W&B, which takes a second."""
    wandb = sys.modules.get("wandb")
    return None if wandb is None else getattr(wandb, "run", None)


def _kept(folder: RunFolder) -> dict[str, Any]:
    return read_object(folder.wandb) or {}
