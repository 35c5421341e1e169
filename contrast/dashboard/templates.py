"""The dashboard's own templates, styles and scripts, beside the report's theme and style, which it shares."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from contrast.report.page import asset

__all__ = ["own_asset", "rendered", "stylesheet"]


def own_asset(name: str) -> str:
    """A file of the dashboard's own."""
    return resources.files("contrast.dashboard").joinpath("assets", name).read_text(encoding="utf-8")


def rendered(name: str, values: dict[str, Any]) -> Markup:
    """A template filled in, with everything escaped."""
    return Markup(_templates().get_template(name).render(values))


@functools.cache
def stylesheet() -> str:
    """Of the list: the report's colours and rules, then its own."""
    colours = rendered("theme.css", {"theme": json.loads(asset("theme.json"))["colours"]})
    return "\n".join((colours, asset("page.css"), own_asset("standing.css"), own_asset("list.css")))


@functools.cache
def _templates() -> jinja2.Environment:
    ours = jinja2.PackageLoader("contrast.dashboard", "assets")
    shared = jinja2.FunctionLoader(lambda name: asset(name) if name == "theme.css" else None)
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([shared, ours]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["attribute"] = _attribute
    return environment


def _attribute(value: str) -> Markup:
    """Text in a quoted attribute, its line breaks too: a browser reads a bare carriage return as a line feed."""
    return escape(value).replace("\r", Markup("&#13;"))
