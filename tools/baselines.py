"""A run's linear probe beside raw pixels and the same network untrained, as a table.

    python tools/baselines.py RUN [--fraction F] [--seeds N]

The three see the same labels, seed by seed, so that gains are paired.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from contrast.commands.demo import untrained
from contrast.commands.encoder import load_run
from contrast.evaluation import Result, evaluate_probe, paired_difference, raw_input, with_backbone
from contrast.run_folder import RunFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("run", type=Path)
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the train labels (default: 1)")
    parser.add_argument("--seeds", type=int, default=5, help="choices of labels (default: 5)")
    arguments = parser.parse_args()
    run, folder = load_run(arguments.run), RunFolder(arguments.run)
    encoders = {
        "pretrained": run.encoder,
        "random encoder": with_backbone(run.encoder, untrained(run), {"weights": "random"}),
        f"raw {run.data.value_name}s": raw_input(run.encoder),
    }
    results: dict[str, Result] = {}
    for name, encoder in encoders.items():
        results[name] = evaluate_probe(
            encoder, run.data, folder.features, torch.device("cpu"), range(arguments.seeds), fraction=arguments.fraction
        )
    ours = [seed["top1"] for seed in results["pretrained"].per_seed]
    print("| features | linear probe | 95 % interval | pretrained minus this, paired |")
    print("| --- | --- | --- | --- |")
    for name, result in results.items():
        found = result.interval
        theirs = [seed["top1"] for seed in result.per_seed]
        gain = "" if name == "pretrained" else _percent(*vars(paired_difference(ours, theirs)).values())
        print(f"| {name} | {found.mean:.1%} | {found.low:.1%} to {found.high:.1%} | {gain} |")
    protocol = results["pretrained"].protocol
    print(f"\n{protocol['train_samples']:,} labels, {protocol['test_samples']:,} test samples, {arguments.seeds} seeds")


def _percent(mean: float, low: float, high: float) -> str:
    return f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


if __name__ == "__main__":
    main()
