"""The commands that messages print: each works exactly as printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from contrast.run_folder import RunFolder
from contrast.runs.status import read_status

__all__ = [
    "had_checkpoint",
    "how_to_go_on",
    "new_run_command",
    "restart_command",
    "resume_command",
    "shell_command",
    "trust_flag",
]

_CLASS = re.compile(r"class_path: *['\"]?([\w.]+)")
_KNOWN = ("contrast", "torch", "torchvision", "lightning")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]|  ")


def shell_command(name: str, *words: str | Path) -> str:
    """A `contrast` command for a POSIX shell, every word quoted where the shell would change it.

    Args:
        name: the subcommand.
        words: its arguments, unquoted; a `Path` never reads as an option or as the word ``auto``.

    Example:
        >>> shell_command("pretrain", "--resume", Path("runs/my run"))
        "contrast pretrain --resume 'runs/my run'"
    """
    return " ".join(["contrast", name, *map(_quoted, words)])


def resume_command(folder: RunFolder, flags: Sequence[str] = ()) -> str:
    """Go on from the run's last checkpoint.

    Args:
        folder: the run folder.
        flags: further words, as ``("--trainer.max_epochs", "20")``.
    """
    return shell_command("pretrain", "--resume", folder.path, *flags, *trust_flag(folder))


def trust_flag(folder: RunFolder) -> tuple[str, ...]:
    """``--trust`` if the stored configuration names a class of another package than those that need none."""
    try:
        named = _CLASS.findall(folder.config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ()
    own = any("." in name and name.partition(".")[0] not in _KNOWN for name in named)
    return ("--trust",) if own else ()


def restart_command(folder: RunFolder) -> str:
    """Start a run again in its own folder, from its own settings: for a run that has not written a checkpoint yet."""
    return shell_command("pretrain", "--config", folder.config, "--run", folder.path, "--resume", "auto")


def new_run_command(folder: RunFolder) -> str:
    """Start a run of the same settings in a folder of its own, which leaves this folder as it is."""
    number = 2
    while (path := folder.path.with_name(f"{_name(folder.path)}-{number}")).exists():
        number += 1
    return shell_command("pretrain", "--config", folder.config, "--run", path)


def had_checkpoint(folder: RunFolder) -> bool:
    """Whether the run once had a checkpoint or an evaluation: starting again in its folder would erase its records."""
    status = read_status(folder.status)
    said = status is not None and (status.checkpoint or status.state == "finished")
    kept = any(folder.checkpoints.glob("*.ckpt")) or any(folder.evaluations.glob("*.json"))
    return said or kept


def how_to_go_on(folder: RunFolder) -> str:
    """The phrase, with a command, for the state that the run folder is in now.

    With a checkpoint: resume. Without one, and never had one: start again in the same folder. Without one, but with
    records that a start would erase: start under another name.
    """
    if folder.last_checkpoint.is_file() or folder.previous_checkpoint.is_file():
        return f"go on with: {resume_command(folder)}"
    if not had_checkpoint(folder):
        return f"start it again with: {restart_command(folder)}"
    return f"start the same run under another name with: {new_run_command(folder)}"


def _name(path: Path) -> str:
    return path.name or path.resolve().name or "run"


def _quoted(word: str | Path) -> str:
    text = str(word)
    if isinstance(word, Path):
        if text == "auto":  # which `--resume` takes for a word of its own
            text = str(word.absolute())
        elif text.startswith("-"):
            text = f"./{text}"
    if not _CONTROL.search(text):
        return shlex.quote(text)
    # A message is printed in one line, each run of white space as one space: such characters are written as escapes.
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("  ", " \\040")
    return "$'" + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\{ord(found[0]):03o}", escaped) + "'"
