"""What a step shows of positives and negatives: scores, hardness, false negatives, gradients, temperatures, health."""

from contrast.observation.observe import HEADER, Observation, RawRows, observe

__all__ = ["HEADER", "Observation", "RawRows", "observe"]
