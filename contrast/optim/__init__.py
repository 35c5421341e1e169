"""Optimisers, parameter groups, and the course of the learning rate."""

from __future__ import annotations

from contrast.optim.lars import LARS
from contrast.optim.parameters import GroupRate, parameter_groups, scaled_rate
from contrast.optim.schedules import Constant, Schedule, Steps, WarmupCosine

__all__ = ["LARS", "Constant", "GroupRate", "Schedule", "Steps", "WarmupCosine", "parameter_groups", "scaled_rate"]
