"""Offline evaluation of encoders: kNN, linear probe, fine-tuning, baselines, near-duplicates and export.

Features are computed once and cached. Every result states its full protocol. This package reads no configuration and
does not use Lightning; `contrast.commands` reads the configuration.
"""

from contrast.evaluation.baselines import measure_baselines, most_samples, with_notes
from contrast.evaluation.duplicates import NearPairs, near_across, near_within, of_two_classes
from contrast.evaluation.encoder import Encoder, averaged_shape, encode, export, fingerprint, raw_input, with_backbone
from contrast.evaluation.features import Features, cache_key, cached_features, extract, features_of
from contrast.evaluation.finetune import FineTuned, FineTuning, LabelledSet, finetune, load_set
from contrast.evaluation.knn import knn_top1, weighted_knn_scores
from contrast.evaluation.labels import held_out_split, label_subset
from contrast.evaluation.probe import LinearProbe, fit_linear, train_probe
from contrast.evaluation.protocols import (
    SeedResult,
    evaluate_finetuning,
    evaluate_knn,
    evaluate_probe,
    finetune_over_seeds,
    probe_over_seeds,
)
from contrast.evaluation.results import Baseline, Result, accuracy_interval, write_json, write_result
from contrast.evaluation.statistics import (
    AUROC,
    Interval,
    auroc_interval,
    balanced_accuracy,
    macro_auroc,
    matched_difference,
    mean_interval,
    paired_difference,
    wilson_interval,
)
from contrast.runtime import choose_device, made_with

__all__ = [
    "AUROC",
    "Baseline",
    "Encoder",
    "Features",
    "FineTuned",
    "FineTuning",
    "Interval",
    "LabelledSet",
    "LinearProbe",
    "NearPairs",
    "Result",
    "SeedResult",
    "accuracy_interval",
    "auroc_interval",
    "averaged_shape",
    "balanced_accuracy",
    "cache_key",
    "cached_features",
    "choose_device",
    "encode",
    "evaluate_finetuning",
    "evaluate_knn",
    "evaluate_probe",
    "export",
    "extract",
    "features_of",
    "finetune",
    "finetune_over_seeds",
    "fingerprint",
    "fit_linear",
    "held_out_split",
    "knn_top1",
    "label_subset",
    "load_set",
    "macro_auroc",
    "made_with",
    "matched_difference",
    "mean_interval",
    "measure_baselines",
    "most_samples",
    "near_across",
    "near_within",
    "of_two_classes",
    "paired_difference",
    "probe_over_seeds",
    "raw_input",
    "train_probe",
    "weighted_knn_scores",
    "wilson_interval",
    "with_backbone",
    "with_notes",
    "write_json",
    "write_result",
]
