"""Draw the figures of docs/methods into docs/images/methods.

    python -m docs.make.method_figures [NAME ...]

Each is computed by the package, on scikit-learn's digits or on a few rows; minutes on one core for all of them.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

import altair as alt

from docs.make.method_figures.drawing import svg

FOLDER = Path(__file__).resolve().parents[2] / "images" / "methods"
NAMES = (
    "adaptive_temperature",
    "bad_pair_mining",
    "barlow_twins",
    "byol",
    "dcl",
    "debiased",
    "feature_transformation",
    "hard_negative_mixing",
    "look",
    "moco",
    "mocov3",
    "nearest_negatives",
    "nnclr",
    "simclr",
    "simsiam",
    "supcon",
    "vicreg",
)


def draw(name: str) -> alt.TopLevelMixin:
    """The chart of one page."""
    chart: alt.TopLevelMixin = import_module(f"docs.make.method_figures.{name}").draw()
    return chart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    names = parser.parse_args().names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no figure is called {', '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        drawn = svg(draw(name))
        (FOLDER / f"{name}.svg").write_text(drawn)
        print(f"{name}.svg  {len(drawn) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
