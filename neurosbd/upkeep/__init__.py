"""Upkeeps: what keeps the synapses of a connection fit by their own weights. Layer 1."""

from collections.abc import Callable

from neurosbd.process import Upkeep
from neurosbd.upkeep.weight_entropy import WeightEntropy

UPKEEPS: dict[str, Callable[..., Upkeep]] = {"weight_entropy": WeightEntropy}

__all__ = ["UPKEEPS", "WeightEntropy"]
