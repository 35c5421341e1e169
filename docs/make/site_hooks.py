"""Hooks of `make site`: the pages outside docs/, links to source files, anchors, and a site that loads nothing else."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages in the root of the repository, and their names on the site."""
_LINK = re.compile(r"(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<path>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\s\">]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make anchors as code hosts make them, and load the script for searching in a folder from the site itself."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    config.extra["polyfills"] = ["worker.js"]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages in the root of the repository."""
    for source, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Fit a page to the site: its links lead to pages of the site, and a page without siblings has no list of them.

    A link to a source file, which the site does not hold, becomes plain text.
    """
    if page.parent is None:  # its column of pages would hold the page alone
        page.meta["hide"] = ["navigation"]
    sources = {name: source for source, name in OUTSIDE.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["path"]))
        if path in OUTSIDE:
            path = f"docs/{OUTSIDE[path]}"
        elif not (ROOT / path).exists():
            return match[0]  # mkdocs refuses it
        if not path.startswith("docs/"):
            return match["text"][1:-1]
        here = posixpath.dirname(f"docs/{page.file.src_uri}")
        return f"{match['text']}({posixpath.relpath(path, here)}{match['anchor'] or ''})"

    parts = _FENCE.split(markdown)
    linked = (part if part.startswith("```") else _LINK.sub(moved, part) for part in parts)
    # The text of a terminal: an indented block has the language text, and is an equation.
    return re.sub(r"^```text$", "```console", "".join(linked), flags=re.MULTILINE)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Refuse a page that a browser could not show without a network."""
    if found := _LOADED.search(output):
        raise PluginError(f"{page.file.src_uri}: the page loads {found[1]}, and must work offline: keep it in docs/")
    return output
