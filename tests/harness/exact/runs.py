"""The runs that are killed: every method, loss, bank and search, each a few steps of digits, one of series."""

from __future__ import annotations

__all__ = ["RUNS", "command"]

_NARROW = "{class_path: MLPHead, init_args: {hidden_width: 16, output_width: 8, batch_norm: true}}"
_V2_HEAD = "{class_path: MoCoV2Head, init_args: {output_width: 8}}"
_HEADS = f"{{class_path: MultiHead, init_args: {{heads: 2, head: {_NARROW}}}}}"
_QUEUE = "{class_path: KeyQueue, init_args: {size: 48}}"
_SMALL = [
    *("--config", "configs/demo.yaml", "--config", "tests/commands/small.yaml"),
    *("--model.backbone", "{class_path: ConvNet, init_args: {widths: [4, 8]}}"),
    *("--checkpoints.every_n_steps", "2", "--checkpoints.keep_every_n_epochs", "4"),
    *("--scores.every_n_steps", "2", "--pairs.gallery", "3", "--bank.every_n_steps", "4", "--bank.every_n_epochs", "2"),
    *("--online_knn.every_n_epochs", "2", "--online_knn.neighbours", "5"),
]
_MOCO = ["--model", "MoCo", "--model.head", _NARROW, "--model.bank", _QUEUE]
_SIMCLR = ["--model.head", _NARROW]
_PREDICTOR = ["--model.head", _NARROW, "--model.predictor", _NARROW]
_LOSS = "--model.loss."
_BAD_PAIRS = (f"{_LOSS}weighting", "{class_path: BadPairMining, init_args: {warmup_epochs: 2}}")


def _bank(mining: str, more: str = "", rows: str = "size: 96, per_sample: true") -> list[str]:
    arguments = f"{rows}, warmup_steps: 2, mining: {mining}{more}"
    return [*_MOCO[:-1], f"{{class_path: FaissBank, init_args: {{{arguments}}}}}"]


def _transforms(*given: str) -> list[str]:
    return [f"{_LOSS}transforms", f"[{', '.join(given)}]"]


RUNS: dict[str, list[str]] = {
    "SimCLR": _SIMCLR,
    "SimCLR, learned temperature": [*_SIMCLR, f"{_LOSS}temperature", "LearnedTemperature"],
    "SimCLR, 2 gradients a step": [*_SIMCLR, "--trainer.accumulate_grad_batches", "2", "--data.batch_size", "16"],
    "SimCLR, LARS": [*_SIMCLR, "--model.optimizer", "{class_path: LARS, init_args: {lr: 0.1}}"],
    "DCL": [*_SIMCLR, f"{_LOSS}objective", "DCL"],
    "DCLW": [*_SIMCLR, f"{_LOSS}objective", "DCLW"],
    "debiased": [*_SIMCLR, f"{_LOSS}objective", "Debiased"],
    "HCL": [*_SIMCLR, f"{_LOSS}objective", "HCL"],
    "AMCL": [
        *("--model.head", _HEADS),
        *(f"{_LOSS}temperature", "{class_path: AdaptiveTemperature, init_args: {width: 8}}"),
    ],
    "AMCL, hardest negative": [*_SIMCLR, f"{_LOSS}objective", "HardestNegative"],
    "DBPM": [*_SIMCLR, *_BAD_PAIRS],
    "DBPM beside dropout": [*_SIMCLR, *_BAD_PAIRS, "--model.backbone", "tests.harness.exact.dropping.Dropping"],
    "class oracle": [*_SIMCLR, *_transforms("{class_path: SameClassRemoval}")],
    "false-negative removal": [
        *_MOCO,
        *_transforms("{class_path: FalseNegativeRemoval, init_args: {most: 3, threshold: 0.2, start_epoch: 1}}"),
    ],
    "false-negative attraction": [
        *_MOCO,
        *_transforms("{class_path: FalseNegativeAttraction, init_args: {most: 3, threshold: 0.2, start_epoch: 1}}"),
    ],
    "MoCo": _MOCO,
    "MoCo v2+": ["--model", "MoCo", "--model.head", _V2_HEAD, "--model.bank", _QUEUE, "--model.symmetric", "true"],
    "MoCHi": [
        *_MOCO,
        *_transforms(
            "{class_path: HardNegativeMixing, init_args: {hardest: 16, pairs: 16, queries: 8, start_epoch: 2}}"
        ),
    ],
    "FT": [*_MOCO, *_transforms("{class_path: PositiveExtrapolation}", "{class_path: NegativeInterpolation}")],
    "MoCHi + DCL + DBPM": [
        *_MOCO,
        *(f"{_LOSS}objective", "DCL"),
        *_transforms("{class_path: HardNegativeMixing, init_args: {hardest: 16, pairs: 8, queries: 4}}"),
        *_BAD_PAIRS,
    ],
    "nearest of a bank": _bank("{class_path: Hardest, init_args: {count: 16}}"),
    "nearest of a bank of the newest keys": _bank(
        "{class_path: Hardest, init_args: {count: 16}}", rows="size: 80, per_sample: false"
    ),
    "strata of a bank": _bank(
        "{class_path: Stratified, init_args: {hardest: 8, semi_hard: 8, random: 8, pool: 32}}", ", storage: float16"
    ),
    "nearest by IVF": _bank(
        "{class_path: Hardest, init_args: {count: 8}}",
        ", approximate: {class_path: IVF, init_args: {lists: 4, effort: 2, above: 32, every_n_steps: 4}}",
    ),
    "nearest by HNSW": _bank(
        "{class_path: Hardest, init_args: {count: 8}}",
        ", approximate: {class_path: HNSW, init_args: {links: 4, effort: 8, above: 32, every_n_steps: 4}}",
    ),
    "NNCLR": ["--model", "NNCLR", *_PREDICTOR, "--model.bank", _QUEUE],
    "MoCo v3": ["--model", "MoCoV3", *_PREDICTOR],
    "SimSiam": ["--model", "SimSiam", *_PREDICTOR],
    "BYOL": ["--model", "BYOL", *_PREDICTOR],
    "Barlow Twins": ["--model", "TwoView", "--model.head", _NARROW],
    "VICReg": ["--model", "TwoView", "--model.head", _NARROW, "--model.loss", "VICReg"],
    "SupCon": ["--model", "SimCLR", "--model.head", _NARROW, "--model.loss", "SupCon"],
    "LOOK": [*_MOCO, "--model.loss", "{class_path: LOOK, init_args: {neighbours: 10}}"],
    "series": [
        *("--config", "configs/data/japanese_vowels.yaml", "--data.limit", "96", "--data.batch_size", "32"),
        *("--model.backbone", "{class_path: ResNet1d, init_args: {blocks: [1, 1], base_width: 4}}", *_SIMCLR),
    ],
}
"""What `contrast pretrain` is told of each, beside what all are told."""


def command(name: str, folder: str, workers: int, epochs: int) -> list[str]:
    """Words after `contrast` that start the run, or go on with it."""
    placed = ["--trainer.max_epochs", str(epochs), "--data.workers", str(workers), "--run", folder, "--resume", "auto"]
    return ["pretrain", *_SMALL, *RUNS[name], *placed]
