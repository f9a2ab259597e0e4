"""Plasticities: from local quantities to a loss-gradient-shaped change of the synapses."""

from collections.abc import Callable

from neurosbd.plasticity.correlative import Correlative
from neurosbd.plasticity.eligibility_propagation import EligibilityPropagation, RateRegulated
from neurosbd.plasticity.plasticity import Bounded, Plasticity, Tracking
from neurosbd.plasticity.spike_timing import PolicyGradient, RewardedSpikeTiming, SpikeTiming, Window
from neurosbd.plasticity.three_factor import ThreeFactor

PLASTICITIES: dict[str, Callable[..., Plasticity]] = {
    "three_factor": ThreeFactor,
    "eligibility_propagation": EligibilityPropagation,
    "correlative": Correlative,
    "spike_timing": SpikeTiming,
    "rewarded_spike_timing": RewardedSpikeTiming,
    "policy_gradient": PolicyGradient,
}

__all__ = [
    "PLASTICITIES", "Bounded", "Correlative", "EligibilityPropagation", "Plasticity", "PolicyGradient", "RateRegulated",
    "RewardedSpikeTiming", "SpikeTiming", "ThreeFactor", "Tracking", "Window",
]  # fmt: skip
