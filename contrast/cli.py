"""Command-line entry point `contrast`: a table of subcommands, each imported only when it is called."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from contrast.commands.configuration import is_text
from contrast.commands.environment import restored_environment, usable_streams
from contrast.errors import MEMORY, InputError, RunStopped, Terminated, did_you_mean, files_message, out_of_memory
from contrast.stop_signals import end_at_once, new_request

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "pretrain": "train an encoder from a configuration and flags; the demo without any",
    "probe": "linear probe or fine-tuning of a run's features on a labelled set",
    "knn": "weighted nearest-neighbour accuracy of a run's features",
    "duplicates": "near-duplicate samples in a run's data, found by its features, with pictures",
    "report": "one HTML page about a run, or comparing several runs",
    "doctor": "problems of a run, each with the number behind it and a fix",
    "dashboard": "local web page of all runs in a folder, live while they train",
    "compare": "run a grid of configurations x seeds: one table with intervals and baselines",
    "export": "a run's backbone as safetensors with a card; loads in torchvision or timm",
    "demo": "pretrain on the digits, probe, compare with baselines, report: the whole tour",
}
"""Subcommands and their one-line help texts; `contrast.commands.NAME.main` runs the subcommand NAME."""

_LONGEST = 1500
"""Maximum number of characters in an error line; a longer line is cut in the middle."""

_EXAMPLES = """\
examples:
  contrast pretrain --config configs/demo.yaml --run runs/first
  contrast pretrain --config configs/demo.yaml --model.loss.objective DCL --trainer.max_epochs 2
  contrast report runs/first

`contrast COMMAND --help` shows a command's options and an example."""


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; a user error prints one line on standard error and gives exit code 2.

    Args:
        arguments: words of the command line; None reads `sys.argv`.

    Returns:
        The exit code.
    """
    usable_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        return _print(_usage())
    if given[0] == "--version":
        from importlib.metadata import version

        return _print(f"contrast {version('contrast')}")
    if strange := next((word for word in given if not is_text(word)), None):
        return _refuse("contrast", f"{strange!r} is not UTF-8 text: give another word or path")
    name, rest = given[0], given[1:]
    if name not in COMMANDS:
        return _refuse("contrast", f"no command {name!r}{did_you_mean(name, COMMANDS)}")
    try:
        with restored_environment(), _terminated():
            code = int(importlib.import_module(f"contrast.commands.{name}").main(rest))
            sys.stdout.flush()  # inside the try, so that a full disk is reported in one line
            return code
    except SystemExit:  # argparse exits after --help
        if reason := _unwritable_output():
            return _refuse(f"contrast {name}", reason)
        raise
    except InputError as error:
        return _refuse(f"contrast {name}", str(error))
    except RunStopped as stopped:
        return _refuse(f"contrast {name}", str(stopped), stopped.exit_code)
    except Terminated as by:
        return _refuse(f"contrast {name}", f"stopped by {signal.Signals(by.number).name}", 128 + by.number)
    except KeyboardInterrupt:
        return _refuse(f"contrast {name}", "interrupted", 130)
    except BrokenPipeError:  # the reader of our output has ended: `contrast … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, no permission, a file where a folder is needed
        if error.errno == errno.ENOSPC and error.filename is None and (reason := _unwritable_output("\n")):
            return _refuse(f"contrast {name}", reason)
        outside = isinstance(error, ConnectionError | TimeoutError) or error.errno is None
        reason = f"{type(error).__name__}: {files_message(error)}" if outside else files_message(error)
        return _refuse(f"contrast {name}", reason, 1 if outside else 2)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return _refuse(f"contrast {name}", MEMORY, 1)


def _print(text: str) -> int:
    """Print the text and return the exit code."""
    reason = _unwritable_output(f"{text}\n")
    return _refuse("contrast", reason) if reason else 0


def _unwritable_output(text: str = "") -> str:
    """Write to standard output; return an error message if that fails, else an empty text.

    After a failure, later output is discarded. A closed pipe is not an error.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return f"standard output cannot be written ({error.strerror}): redirect it"
    return ""


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """Context manager: SIGTERM and SIGHUP raise exceptions, so that they do not leave partly written files.

    A signal that is ignored (SIGHUP under `nohup`) or already has another handler is left unchanged.
    """
    ours = threading.current_thread() is threading.main_thread()
    asked = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = [number for number in asked if ours and signal.getsignal(number) == signal.SIG_DFL]
    new_request()
    for number in taken:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    end_at_once(number)


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items())
    return f"usage: contrast COMMAND [options]\n\ncommands:\n{rows}\n\n{_EXAMPLES}"


def _refuse(program: str, message: str, exit_code: int = 2) -> int:
    line = " ".join(message.split())
    line = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 300]} … {line[-300:]}"
    print(f"{program}: error: {line}", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    raise SystemExit(main())
