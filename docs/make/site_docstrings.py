"""Docstrings on the site: sections that Google style does not name."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_SOURCE = re.compile(r"^Source: ", re.MULTILINE)


class Sections(griffe.Extension):
    """Show `Example:` as code that runs, and `Source:` with its name set off."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            text = _EXAMPLE.sub("Examples:", obj.docstring.value)
            obj.docstring.value = _SOURCE.sub("**Source:** ", text)
