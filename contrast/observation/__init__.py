"""Observers of a training step: scores, hardness, false negatives, gradients, temperatures and health of embeddings."""

from contrast.observation.blocks import Block
from contrast.observation.listed import ListedObserver, checked_observers, plain_row, plain_scalars
from contrast.observation.negatives import PerQuery
from contrast.observation.observe import HEADER, Observation, observe
from contrast.observation.observer import ObservedOutput, Observer, RawRows, histograms
from contrast.observation.sums import Average, Histogram

__all__ = [
    "HEADER",
    "Average",
    "Block",
    "Histogram",
    "ListedObserver",
    "Observation",
    "ObservedOutput",
    "Observer",
    "PerQuery",
    "RawRows",
    "checked_observers",
    "histograms",
    "observe",
    "plain_row",
    "plain_scalars",
]
