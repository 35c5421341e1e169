"""Observers of a training step: scores, hardness, false negatives, gradients, temperatures and health of embeddings."""

from contrast.observation.observe import HEADER, Observation, RawRows, observe

__all__ = ["HEADER", "Observation", "RawRows", "observe"]
