"""Expansions of the score: further columns whose conditional mean is zero at the optimum. Layer 1."""

from collections.abc import Callable

from neurosbd.expansions.bartlett import Bartlett
from neurosbd.process import Expansion

EXPANSIONS: dict[str, Callable[..., Expansion]] = {"bartlett": Bartlett}

__all__ = ["EXPANSIONS", "Bartlett"]
