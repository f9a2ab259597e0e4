"""Homeostases: what keeps a population alive by its own activity. Layer 1."""

from collections.abc import Callable

from neurosbd.homeostasis.sparsity import Sparsity
from neurosbd.process import Homeostasis

HOMEOSTASES: dict[str, Callable[..., Homeostasis]] = {"sparsity": Sparsity}

__all__ = ["HOMEOSTASES", "Sparsity"]
