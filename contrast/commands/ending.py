"""How a run ends that does not reach its last step: in one line, said by one of its processes."""

from __future__ import annotations

import contextlib
import errno
import signal
from collections.abc import Iterator
from pathlib import Path

import lightning
import torch.distributed as dist
from lightning.fabric.utilities.exceptions import MisconfigurationException

from contrast.callbacks import ResumedRecords
from contrast.commands.monitored import unknown_metric
from contrast.data.failures import dead_worker, worker_message
from contrast.errors import InputError, RunStopped, Terminated, files_message
from contrast.next_command import how_to_go_on, resume_command
from contrast.run_folder import RunFolder

__all__ = ["by_the_first_process", "in_words"]

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_GONE = ("closed by peer", "reset by peer", "Broken pipe")  # what gloo says of a process that has ended


@contextlib.contextmanager
def in_words(trainer: lightning.Trainer, folder: RunFolder, checkpoint: Path | None) -> Iterator[None]:
    """Around `trainer.fit`: what it raises as what the user should read.

    Args:
        trainer: the run's.
        folder: the run folder.
        checkpoint: that the run goes on from, if any.

    Raises:
        InputError: for anything wrong with the configuration, the data or the checkpoint.
        RunStopped: where the run ended before its last step.
    """
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        yield
    except InputError as error:
        raise InputError(worker_message(error)) from error
    except RuntimeError as error:
        if dead := dead_worker(error):
            raise RunStopped(f"{dead}; at step {trainer.global_step}; {_kept(folder)}") from error
        if unknown := unknown_metric(error, trainer.callback_metrics, trainer.global_step):
            raise unknown from error
        raise _of_torch(error, trainer, checkpoint) from error
    except MisconfigurationException as error:
        if unknown := unknown_metric(error, trainer.callback_metrics, trainer.global_step):
            raise unknown from error
        raise InputError(f"trainer: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if checkpoint is None or _began(trainer):
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"checkpoint {str(checkpoint)!r} lacks what a run goes on from ({reason})") from error
    except OSError as error:
        if error.errno not in _DISK:
            if not _began(trainer):
                raise
            said = f"{type(error).__name__}: {files_message(error)}"
            raise RunStopped(f"the run failed at step {trainer.global_step} ({said}); {_kept(folder)}") from error
        raise _unwritable(error, folder, trainer.global_step) from error
    except SystemExit as error:
        # What Lightning makes of a Ctrl-C; from then on it ignores any other.
        by = error.__context__
        if not isinstance(by, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, interrupted)
        raise _interrupted(by, folder, trainer.global_step) from error


@contextlib.contextmanager
def by_the_first_process(trainer: lightning.Trainer) -> Iterator[None]:
    """Of several processes that stop for one reason the first one says it, and the others end in silence.

    With exit code 0: for any other Lightning kills the first process, which may still be at its last words. What is
    wrong with one process's data it says itself; on a CPU the first one sees at once that it has gone.
    """
    try:
        yield
    except RunStopped:
        if trainer.is_global_zero:
            raise
        raise SystemExit(0) from None
    except InputError as error:
        if trainer.is_global_zero or not (dist.is_initialized() and dist.get_backend() == "gloo"):
            raise
        raise RunStopped(str(error), exit_code=0) from error


def _of_torch(error: RuntimeError, trainer: lightning.Trainer, checkpoint: Path | None) -> Exception:
    if trainer.world_size > 1 and any(each in str(error) for each in _GONE):
        return RunStopped("another process of this run has ended: it said why, or it was killed")
    if "loading state_dict" not in str(error):
        return error
    first = " ".join(str(error).split())[:300]
    return InputError(f"{checkpoint} is of another architecture than the configuration now says: {first}")


def _began(trainer: lightning.Trainer) -> bool:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # a connector sets it
    return any(callback.began for callback in callbacks if isinstance(callback, ResumedRecords))


def _unwritable(error: OSError, folder: RunFolder, step: int) -> RunStopped:
    kept = f"the last good checkpoint is {folder.last_checkpoint}"
    if not folder.last_checkpoint.exists():
        kept = "no checkpoint had been written yet"
    return RunStopped(
        f"{folder.path} could not be written at step {step} ({error.strerror}); {kept}: make room, then "
        f"{how_to_go_on(folder)}"
    )


def _interrupted(by: KeyboardInterrupt, folder: RunFolder, step: int) -> RunStopped:
    """Outside of a step, or by a second signal: nothing more is saved."""
    number = by.number if isinstance(by, Terminated) else signal.SIGINT
    how = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    return RunStopped(f"{how} at step {step}, at once; {_kept(folder)}", exit_code=128 + number)


def _kept(folder: RunFolder) -> str:
    if not folder.last_checkpoint.exists():
        kept = "no checkpoint had been written yet"
        # Without rows `cleared_if_refused` takes the folder away.
        return f"{kept}: {how_to_go_on(folder)}" if folder.metrics.exists() else kept
    return f"go on from the last checkpoint with: {resume_command(folder)}"
