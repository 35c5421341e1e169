"""The site of the documentation holds every page once, and links lead to files and headings that exist."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OUTSIDE = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages that docs/make/site_hooks.py makes of files in the root of the repository."""
SOURCES = [*(ROOT / name for name in OUTSIDE.values()), *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)|src=\"([^\"]+)\"")


def pages(part: Any) -> Iterator[str]:
    """The files that a part of the navigation names."""
    if isinstance(part, str):
        yield part
    else:
        for each in part.values() if isinstance(part, dict) else part:
            yield from pages(each)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_each_page_stands_in_the_navigation_once_and_each_entry_is_a_page() -> None:
    named = Counter(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    written = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert all((ROOT / source).is_file() for source in OUTSIDE.values())
    assert not written & set(OUTSIDE), "a page in docs/ has the name of a page that is made of a file in the root"
    assert set(named) == written | set(OUTSIDE), "mkdocs.yml: every page of docs/ needs one line under nav"
    assert max(named.values()) == 1


@pytest.mark.parametrize("page", SOURCES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for path, anchor, picture in LINK.findall(prose(page)):
        target = (page.parent / (path or picture)).resolve() if path or picture else page
        assert target.exists(), f"{page.name} links to {path or picture}"
        if anchor.startswith("contrast."):  # `make site` makes this anchor from a docstring, and checks it
            assert f"::: {anchor.rpartition('.')[0]}" in target.read_text(encoding="utf-8")
        elif anchor:
            assert anchor in anchors(target), f"{page.name} links to {path}#{anchor}"


def test_each_reference_page_names_a_module_that_exists() -> None:
    for page in (DOCS / "reference").glob("*.md"):
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            path = ROOT / name.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file(), f"{page.name}: {name}"
