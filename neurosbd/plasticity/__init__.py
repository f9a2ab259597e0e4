"""Plasticities: from local quantities to a loss-gradient-shaped change of the synapses."""

from neurosbd.plasticity.correlative import Correlative
from neurosbd.plasticity.eligibility_propagation import EligibilityPropagation, RateRegulated
from neurosbd.plasticity.plasticity import Plasticity, Tracking
from neurosbd.plasticity.spike_timing import PolicyGradient, RewardedSpikeTiming, SpikeTiming, Window
from neurosbd.plasticity.three_factor import ThreeFactor

__all__ = [
    "Correlative", "EligibilityPropagation", "Plasticity", "PolicyGradient", "RateRegulated",
    "RewardedSpikeTiming", "SpikeTiming", "ThreeFactor", "Tracking", "Window",
]  # fmt: skip
