"""Shell commands that messages suggest as the next step; each command works exactly as printed."""

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
    """Format a `contrast` command for a POSIX shell, with every word quoted that needs it.

    Args:
        name: the subcommand.
        words: its arguments, unquoted. A `Path` is written so that it cannot be read as an option or as the word
            ``auto``.

    Example:
        >>> shell_command("pretrain", "--resume", Path("runs/my run"))
        "contrast pretrain --resume 'runs/my run'"
    """
    return " ".join(["contrast", name, *map(_quoted, words)])


def resume_command(folder: RunFolder, flags: Sequence[str] = ()) -> str:
    """Command that resumes the run from its last checkpoint.

    Args:
        folder: the run folder.
        flags: additional words, for example ``("--trainer.max_epochs", "20")``.
    """
    return shell_command("pretrain", "--resume", folder.path, *flags, *trust_flag(folder))


def trust_flag(folder: RunFolder) -> tuple[str, ...]:
    """``("--trust",)`` if the stored configuration names a class that is only imported with trust, else ``()``."""
    try:
        named = _CLASS.findall(folder.config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ()
    own = any("." in name and name.partition(".")[0] not in _KNOWN for name in named)
    return ("--trust",) if own else ()


def restart_command(folder: RunFolder) -> str:
    """Command that starts a run again in its own folder with its own settings; for a run that has no checkpoint yet."""
    return shell_command("pretrain", "--config", folder.config, "--run", folder.path, "--resume", "auto")


def new_run_command(folder: RunFolder) -> str:
    """Command that starts a run with the same settings in a new folder, and leaves this folder unchanged."""
    number = 2
    while (path := folder.path.with_name(f"{_name(folder.path)}-{number}")).exists():
        number += 1
    return shell_command("pretrain", "--config", folder.config, "--run", path)


def had_checkpoint(folder: RunFolder) -> bool:
    """Whether the run ever had a checkpoint or an evaluation; a new start in its folder would then erase records."""
    status = read_status(folder.status)
    recorded = status is not None and (status.checkpoint or status.state == "finished")
    kept = any(folder.checkpoints.glob("*.ckpt")) or any(folder.evaluations.glob("*.json"))
    return recorded or kept


def how_to_go_on(folder: RunFolder) -> str:
    """Phrase with the command that continues or restarts the run, depending on the files in its folder.

    With a checkpoint, the command resumes the run. If there never was a checkpoint, it starts the run again in the same
    folder. If the checkpoints are gone, but a start would erase records, it starts the run under another name.

    Args:
        folder: the run folder.
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
        if text == "auto":  # a keyword of `--resume`
            text = str(word.absolute())
        elif text.startswith("-"):
            text = f"./{text}"
    if not _CONTROL.search(text):
        return shlex.quote(text)
    # A message is printed in one line with white space collapsed. So control characters and double spaces are escaped.
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("  ", " \\040")
    return "$'" + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\{ord(found[0]):03o}", escaped) + "'"
