"""Homeostases: what keeps a population alive by its own activity. Layer 1."""

from collections.abc import Callable

from neurosbd.homeostasis.layer_entropy import LayerEntropy
from neurosbd.homeostasis.power import Power
from neurosbd.homeostasis.sparsity import Sparsity
from neurosbd.process import Homeostasis

HOMEOSTASES: dict[str, Callable[..., Homeostasis]] = {
    "power": Power,
    "layer_entropy": LayerEntropy,
    "sparsity": Sparsity,
}

__all__ = ["HOMEOSTASES", "LayerEntropy", "Power", "Sparsity"]
