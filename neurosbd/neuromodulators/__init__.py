"""Neuromodulators: from the score of the loss to one signal per unit. Layer 1."""

from collections.abc import Callable

from neurosbd.neuromodulators.decorrelation import Decorrelation, Feedback
from neurosbd.neuromodulators.fixed_random import FixedRandom, Frozen
from neurosbd.neuromodulators.forgetting import Forgetting
from neurosbd.neuromodulators.layouts import LAYOUTS, Full, Layout, Shared
from neurosbd.process import Neuromodulator

NEUROMODULATORS: dict[str, Callable[..., Neuromodulator]] = {
    "decorrelation": Decorrelation,
    "fixed_random": FixedRandom,
}

__all__ = [
    "LAYOUTS", "NEUROMODULATORS", "Decorrelation", "Feedback", "FixedRandom", "Forgetting", "Frozen",
    "Full", "Layout", "Shared",
]  # fmt: skip
