"""Regularisers: what keeps populations alive by their activity, and synapses by their weights."""

from collections.abc import Callable

from neurosbd.regularisers.layer_entropy import LayerEntropy
from neurosbd.regularisers.power import Power
from neurosbd.regularisers.regulariser import Homeostasis, Part, Upkeep
from neurosbd.regularisers.sparsity import Sparsity
from neurosbd.regularisers.weight_entropy import WeightEntropy

HOMEOSTASES: dict[str, Callable[..., Homeostasis]] = {
    "power": Power,
    "layer_entropy": LayerEntropy,
    "sparsity": Sparsity,
}
UPKEEPS: dict[str, Callable[..., Upkeep]] = {"weight_entropy": WeightEntropy}

__all__ = [
    "HOMEOSTASES", "UPKEEPS", "Homeostasis", "LayerEntropy", "Part", "Power", "Sparsity", "Upkeep", "WeightEntropy",
]  # fmt: skip
