"""Guarded calls to loggers that may fail, and loggers of a resumed run."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from tqdm.auto import tqdm

from contrast.errors import counted

__all__ = ["attempt", "flush", "guard", "missed_calls", "prepare", "sent"]

T = TypeVar("T")

_METHODS = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint")
_PROPERTIES = ("name", "version", "save_dir", "root_dir", "log_dir", "experiment")
"""Interface of `lightning.pytorch.loggers.Logger`, with the additions of the loggers that Lightning ships."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 600.0
"""Seconds during which a failed kind of call is not retried; each further failure in succession doubles them."""

_CALLS = "_contrast_calls"


class _Calls:
    """Failed calls of one logger, with exponential back-off.

    Args:
        name: class name of the logger, for messages.

    Attributes:
        missed: for each kind of call, how many failed or were skipped during a pause.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.missed: Counter[str] = Counter()
        self._pauses: dict[str, tuple[float, float]] = {}  # kind of call -> length and end of its pause
        self._inside = False

    def attempt(self, kind: str, call: Callable[[], T], otherwise: T) -> T:
        """Result of the call, or `otherwise` where it fails.

        A call inside another guarded call raises, so that the outer call is the one that counts as failed.

        Args:
            kind: kind of the call.
            call: function to try.
            otherwise: result where it fails.
        """
        outer, self._inside = self._inside, True
        try:
            if time.monotonic() < self._pauses.get(kind, (0.0, 0.0))[1]:
                if outer:
                    raise ConnectionError(f"{kind} failed before and will be tried again later")
                self.missed[kind] += 1
                return otherwise
            result = call()
            self._pauses.pop(kind, None)
            return result
        except Exception as error:  # any exception: another library raised it, and a run must outlive its loggers
            pause = min(2 * self._pauses.get(kind, (_FIRST_PAUSE / 2, 0.0))[0], _LONGEST_PAUSE)
            self._pauses[kind] = (pause, time.monotonic() + pause)
            if outer:
                raise
            if not self.missed:
                self._report(kind, error)
            self.missed[kind] += 1
            return otherwise
        finally:
            self._inside = outer

    def _report(self, kind: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
        tqdm.write(
            f"warning {self.name} failed at {kind} ({reason}): the run continues, and its folder is complete; the "
            "logger is tried again after a pause, and further failures are only counted",
            sys.stderr,
        )


def guard(logger: Logger) -> Logger:
    """Guard every method and property of Lightning's logger interface against exceptions.

    The same logger object is returned. Its class is replaced by a subclass of its own class, so `isinstance` gives the
    same answers. If the experiment cannot be opened, it is replaced by a dummy that accepts every call and does
    nothing.

    Args:
        logger: logger to guard.
    """
    if hasattr(logger, _CALLS):
        return logger
    kind = type(logger)
    guarded: dict[str, Any] = {name: _method(getattr(kind, name), name) for name in _METHODS if hasattr(kind, name)}
    for name in _PROPERTIES:
        if isinstance(getattr(kind, name, None), property):
            guarded[name] = _property(getattr(kind, name), name)
    own = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    object.__setattr__(logger, _CALLS, _Calls(kind.__name__))
    object.__setattr__(logger, "__class__", type(kind.__name__, (kind,), {**guarded, **own}))
    return logger


def _method(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    def guarded(self: Logger, *arguments: Any, **named: Any) -> Any:
        return attempt(self, name, lambda: method(self, *arguments, **named))

    return guarded


def _property(of: property, name: str) -> property:
    def guarded(self: Logger) -> Any:
        otherwise = _DummyExperiment() if name == "experiment" else None
        return attempt(self, name, lambda: of.__get__(self), otherwise)

    return property(guarded)


def attempt(logger: Logger, kind: str, call: Callable[[], Any], otherwise: Any = None) -> Any:
    """Call a logger without raising: the result, or `otherwise` where the call fails.

    The first failure of a logger is reported; all failures are counted.

    Args:
        logger: logger that is called; a logger that `guard` has not seen is called unguarded.
        kind: kind of the call, for the message and for its pauses.
        call: function to try.
        otherwise: result where the call fails, or is skipped during a pause.
    """
    calls = getattr(logger, _CALLS, None)
    return call() if calls is None else calls.attempt(kind, call, otherwise)


def missed_calls(loggers: Iterable[Logger]) -> str:
    """Summary of the calls that each logger has missed, in one line; empty where there are none."""
    lines = []
    for logger in loggers:
        calls = getattr(logger, _CALLS, None)
        if calls is not None and calls.missed:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in calls.missed.most_common())
            lines.append(f"{calls.name} missed {counted(calls.missed.total(), 'call')} ({kinds})")
    return "; ".join(lines)


_SENT = "_contrast_sent"
_STEP = "trainer/global_step"
_BLOCK, _HEAD = 32_768, 7
_WHOLE, _FIRST, _LAST = 1, 2, 4  # record types of LevelDB; 3 is a middle part


def prepare(logger: Logger, step: int) -> None:
    """Prepare a logger for a resumed run that continues after this step.

    Loggers other than TensorBoard and W&B are left unchanged. TensorBoard discards what it has of later steps. W&B
    cannot discard anything: the names that its files already hold of later steps are remembered and not sent again.

    Args:
        logger: logger whose files come from earlier starts.
        step: step of the checkpoint.
    """
    if isinstance(logger, TensorBoardLogger):
        attempt(logger, "resume", lambda: _purge(logger, step))
    elif isinstance(logger, WandbLogger):
        object.__setattr__(logger, _SENT, attempt(logger, "resume", lambda: _read(logger, step), {}))


def sent(logger: Logger, step: int) -> set[str]:
    """Names that earlier starts sent to W&B for this step; empty for other loggers and steps."""
    known = getattr(logger, _SENT, None)
    return known.get(step, set()) if isinstance(known, dict) else set()


def flush(loggers: Iterable[Logger]) -> None:
    """Flush TensorBoard to disk with each checkpoint, so that a resumed run finds everything up to the checkpoint."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            attempt(logger, "flush", logger.experiment.flush)


def _purge(logger: TensorBoardLogger, step: int) -> None:
    writer = logger.experiment
    writer.close()  # the next event opens a new file, which starts with the step from which it replaces the others
    writer.purge_step = step + 1


def _read(logger: WandbLogger, step: int) -> dict[int, set[str]]:
    """Names by step in the local files of earlier W&B starts.

    The last rows of a killed run may not have reached the server.
    """
    found: dict[int, set[str]] = {}
    for file in sorted(Path(logger.save_dir or ".").glob(f"wandb/*run-*-{logger.version}/run-{logger.version}.wandb")):
        for row in _history(file):
            of = row.pop(_STEP, None)
            if isinstance(of, int) and of > step:
                found.setdefault(of, set()).update(row)
    return found


def _history(file: Path) -> Iterator[dict[str, Any]]:
    from wandb.proto import wandb_internal_pb2 as proto  # imported late: W&B takes a second to import

    for content in _records(file.read_bytes()):
        record = proto.Record.FromString(content)  # type: ignore[attr-defined]  # generated by protobuf
        if record.WhichOneof("record_type") == "history":
            yield {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}


def _records(data: bytes) -> Iterator[bytes]:
    """Complete records of LevelDB's log format, which W&B splits at blocks of 32 KiB; a torn record ends the file."""
    place, parts = _HEAD, b""  # after the file's header
    while place + _HEAD <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEAD:  # no room for a header: padding
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)  # after the checksum
        part = data[place + _HEAD : place + _HEAD + length]
        if len(part) < length or not _WHOLE <= kind <= _LAST:
            return
        place += _HEAD + length
        parts = part if kind in (_WHOLE, _FIRST) else parts + part
        if kind in (_WHOLE, _LAST):
            yield parts
