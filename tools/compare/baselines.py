"""The baselines of a grid: raw input and the network with random weights, evaluated as its cells are.

python -m tools.compare.baselines GRID [--out FOLDER]

No cell has to be trained. The table's rows are printed as they come, and kept in OUT/baselines.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from contrast.runs.files import whole_file
from tools.compare.cell import evaluate_encoder
from tools.compare.grid import Cell, Grid, fingerprint, read_grid, resolved
from tools.compare.machine import commit, machine

__all__ = ["baselines_of", "main"]


def baselines_of(grid: Grid, cells: Sequence[Cell], out: Path) -> list[dict[str, Any]]:
    """One content for each baseline, column and seed, as cells have it; the network is the baseline row's.

    Args:
        grid: the grid.
        cells: its cells.
        out: gets baselines.json, from which what was measured before is taken.
    """
    kept = out / "baselines.json"
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else []
    found: list[dict[str, Any]] = []
    for cell in (cell for cell in cells if cell.row == grid.baseline):
        key = fingerprint({"cell": _measured_by(resolved(cell)), "evaluate": asdict(grid.evaluation)})
        known = [each for each in before if each["key"] == key]
        if not known:
            print(f"compare: baselines of {cell.name}", flush=True)
            known = [{"key": key, **content} for content in _measure(grid, cell, out / "features")]
        # Columns that differ in training only share their baselines.
        found += [{**each, "column": cell.column, "seed": cell.seed} for each in known]
        before += known
        with whole_file(kept) as part:
            part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _measured_by(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a configuration what a baseline depends on: the network, the data, the seed; not batches and views."""
    data = {**config["data"], "init_args": {**config["data"]["init_args"]}}
    for name in ("batch_size", "workers"):
        data["init_args"].pop(name, None)
    return {"seed": config["seed_everything"], "network": config["model"]["init_args"]["backbone"], "data": data}


def _measure(grid: Grid, cell: Cell, cache: Path) -> Iterator[dict[str, Any]]:
    import lightning

    from contrast.commands.building import build, evaluation_parser, import_from_here
    from contrast.commands.building import resolve as typed_of
    from contrast.evaluation import Encoder, choose_device, fingerprint, raw_input

    config = resolved(cell)
    import_from_here()
    parser = evaluation_parser(with_model=True)
    lightning.seed_everything(config["seed_everything"], verbose=False)
    typed, _ = typed_of(parser, {name: config[name] for name in ("seed_everything", "model", "data")})
    built = build(parser, typed)
    net, data = built.model.backbone, built.data
    data.setup("test")
    untrained = Encoder(net, net.width, data.input_shape, data.standardisation, fingerprint(net), {"weights": "random"})
    for name, encoder in ((f"raw {data.value_name}s", raw_input(untrained)), ("random weights", untrained)):
        begun = time.perf_counter()
        numbers, _, about = evaluate_encoder(encoder, data, cache, choose_device("auto"), grid.evaluation, {})
        shown = ", ".join(f"{kind} {100 * numbers[kind]:.1f}" for kind in ("linear", "few_label", "knn"))
        print(f"  {name}: {shown} ({time.perf_counter() - begun:.0f} s)", flush=True)
        yield {
            "row": name,
            "column": cell.column,
            "seed": cell.seed,
            "evaluate": asdict(grid.evaluation),
            "numbers": numbers,
            "data": about,
            "commit": commit(),
            "machine": machine(),
        }


def main(words: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="baselines", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("grid", type=Path, metavar="GRID")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/compare/ and the grid's name")
    arguments = parser.parse_args(words)
    from tools.compare.markdown import baseline_lines
    from tools.compare.table import ACCURACIES, summarise_baselines

    grid = read_grid(arguments.grid)
    out = arguments.out or Path("runs", "compare", grid.name)
    cells = grid.cells(out)
    measured = baselines_of(grid, cells, out)
    bases = {grid.base(row) for row in grid.rows} - {None}
    columns, several = any(column is not None for column in grid.columns), bool(bases - {grid.baseline})
    for line in baseline_lines(summarise_baselines(grid, measured), ACCURACIES, columns, several):
        print(line)
    commits = ", ".join(dict.fromkeys(each["commit"] for each in measured))
    command = shlex.join(["python", "-m", "tools.compare.baselines", str(arguments.grid)])
    print(f"\n- `{command}`, commit {commits}, seeds {', '.join(map(str, grid.seeds))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
