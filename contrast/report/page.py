"""Build the HTML report of run folders as one self-contained page: data, styles and scripts are inline."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from contrast.report.charts import Figure, Missing
from contrast.report.figures.differences import differences
from contrast.report.figures.embedding import embedding_health
from contrast.report.figures.gradients import coupling, gradient_shares, temperatures
from contrast.report.figures.negatives import false_negatives, hardness_profile, memory_bank
from contrast.report.figures.other import other_records
from contrast.report.figures.pairs import bad_pairs, data_map, gallery
from contrast.report.figures.scores import pretext_accuracy, score_densities, score_separation
from contrast.report.figures.training import knn_accuracy, learning_rate, training_loss
from contrast.report.overview import compared_numbers, overview
from contrast.report.run_record import RunRecord
from contrast.report.settings import differing_settings, flat_settings
from contrast.run_folder import RunFolder

__all__ = ["Around", "Section", "asset", "build_page", "page_style", "read_runs", "template_environment"]

LIBRARY = "window.vegaEmbed = vegaEmbed;"  # the only library name that the page's scripts call
SCRIPTS = ("theme.js", "draw.js", "download.js", "scores.js", "start.js")


@dataclass(frozen=True)
class Section:
    """Section of the report: a heading and its figures.

    Attributes:
        name: anchor of the section in the page.
        title: the heading.
        figures: one function per figure; each takes the runs and returns a `Figure` or a `Missing`.
    """

    name: str
    title: str
    figures: tuple[Callable[[Sequence[RunRecord]], Figure | Missing], ...]


@dataclass(frozen=True)
class Around:
    """Extra HTML, CSS and JavaScript that a server adds to a report page it serves.

    A page that is written to a file has none of these additions.

    Attributes:
        top: HTML above the page's own bar.
        style: CSS rules for `top`.
        script: JavaScript for `top`. No other script of the page may send requests, and only to the page's own server.
    """

    top: Markup
    style: str
    script: str


SECTIONS = (
    Section("scores", "Scores", (score_densities, score_separation, pretext_accuracy)),
    Section("training", "Training", (training_loss, knn_accuracy, learning_rate)),
    Section("negatives", "Negatives", (hardness_profile, false_negatives, memory_bank)),
    Section("gradients", "Gradients", (gradient_shares, coupling, temperatures)),
    Section("embedding", "Embedding", (embedding_health,)),
    Section("pairs", "Pairs", (gallery, data_map, bad_pairs)),
)
BETWEEN = Section("differences", "Differences", (differences,))
"""Section that is shown only when the page compares several runs."""
OTHER = Section("other", "Other records", ())
"""Section of all records that no figure claims; it is left out where there are none."""


def read_runs(folders: Sequence[RunFolder]) -> list[RunRecord]:
    """Read run folders into records, each with a name that is unique on the page.

    A run's name is its folder's name, preceded by as many parent folders as needed to make all names different.
    """
    return [RunRecord.read(folder, name) for folder, name in zip(folders, _names(folders), strict=True)]


def build_page(runs: Sequence[RunRecord], around: Around | None = None) -> str:
    """Render the report of one or several runs as one HTML page.

    The page loads nothing over the network, and its content security policy forbids the browser to do so.

    Args:
        runs: the records of the runs. Several runs are drawn on shared axes.
        around: additions of a server that serves the page. With them the page may send requests to its own server,
            but to no other.

    Returns:
        The whole page as HTML.
    """
    shown = (*SECTIONS, BETWEEN) if len(runs) > 1 else SECTIONS
    sections = [(section, [draw(runs) for draw in section.figures]) for section in shown]
    if others := other_records(runs):
        sections.append((OTHER, list(others)))
    figures = [figure for _, found in sections for figure in found if isinstance(figure, Figure)]
    theme = json.loads(asset("theme.json"))
    overviews = [overview(run) for run in runs]
    templates = template_environment(asset)
    style = [page_style()]
    scripts = [_library(), "\n".join(asset(name) for name in SCRIPTS)]
    if around is not None:
        style.append(around.style)
        scripts.append(around.script)
    return templates.get_template("page.html").render(
        runs=overviews,
        compared=compared_numbers(overviews),
        sections=sections,
        differing=differing_settings([run.config for run in runs]),
        settings=[flat_settings(run.config) for run in runs],
        around=around,
        style=Markup("\n".join(style)),
        scripts=[Markup(script) for script in scripts],
        data=_as_json({"theme": theme, "figures": {figure.name: _payload(figure) for figure in figures}}),
    )


def _payload(figure: Figure) -> dict[str, Any]:
    """Data of a figure for the page's scripts."""
    charts = {chart.name: {"spec": chart.spec, "label": chart.label} for chart in figure.charts}
    return {"title": figure.title, "charts": charts, "tables": figure.tables, **figure.extra}


def _names(folders: Sequence[RunFolder]) -> list[str]:
    """Shortest ends of the folders' paths, of equal depth, that are all different."""
    paths = [Path(folder.path).resolve() for folder in folders]
    for depth in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _as_json(value: Any) -> Markup:
    """Encode a value as JSON for a script element: "<" is escaped, so no text can close the element."""
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))


def asset(name: str) -> str:
    """Read an asset of the report: a template, a style sheet, a script or the theme."""
    return resources.files("contrast.report").joinpath("assets", name).read_text(encoding="utf-8")


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the bundle that vl-convert ships."""
    return vl_convert.javascript_bundle(LIBRARY).replace("</script", "<\\/script")


def _hash_source(text: str) -> Markup:
    """Content security policy source of an inline script or style: its SHA-256, so that no other one can run."""
    return Markup(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")


def page_style() -> str:
    """Style sheet of a page: the theme's colours, light and dark, and the rules for text, tables and figures."""
    colours = json.loads(asset("theme.json"))["colours"]
    return f"{template_environment(asset).get_template('theme.css').render(theme=colours)}\n{asset('page.css')}"


@functools.cache
def template_environment(assets: Callable[[str], str]) -> jinja2.Environment:
    """Environment for the templates of a page, which escapes every value.

    Args:
        assets: function of a template's name that returns its text.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(assets),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["hash_source"] = _hash_source
    return environment
