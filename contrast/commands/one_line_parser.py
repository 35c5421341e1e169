"""An argument parser that refuses in one line, as every other refusal of this project does."""

from __future__ import annotations

import argparse
from typing import NoReturn

from contrast.errors import InputError

__all__ = ["OneLineParser"]


class OneLineParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` without the lines of usage that argparse prints before an error.

    Example:
        >>> parser = OneLineParser(prog="contrast knn")
        >>> _ = parser.add_argument("--neighbours", type=int)
        >>> parser.parse_args(["--neighbours", "x"])
        Traceback (most recent call last):
        contrast.errors.InputError: argument --neighbours: invalid int value: 'x' (see contrast knn --help)
    """

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")
