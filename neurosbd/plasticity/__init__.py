"""Plasticities: from local quantities to a loss-gradient-shaped change of the synapses."""

from collections.abc import Callable

from neurosbd.plasticity.bcm import BCM
from neurosbd.plasticity.correlative import Correlative
from neurosbd.plasticity.eligibility_propagation import EligibilityPropagation, RateRegulated
from neurosbd.plasticity.inhibitory import SymmetricInhibitory
from neurosbd.plasticity.oja import Oja
from neurosbd.plasticity.plasticity import Bounded, EventDriven, Plasticity, Tracking
from neurosbd.plasticity.spike_timing import PolicyGradient, RewardedSpikeTiming, SpikeTiming, Window
from neurosbd.plasticity.synaptic_scaling import SynapticScaling
from neurosbd.plasticity.three_factor import ThreeFactor
from neurosbd.plasticity.triplet import Triplet
from neurosbd.plasticity.voltage_based import VoltageBased

PLASTICITIES: dict[str, Callable[..., Plasticity]] = {
    "three_factor": ThreeFactor,
    "eligibility_propagation": EligibilityPropagation,
    "correlative": Correlative,
    "spike_timing": SpikeTiming,
    "rewarded_spike_timing": RewardedSpikeTiming,
    "policy_gradient": PolicyGradient,
    "triplet": Triplet,
    "symmetric_inhibitory": SymmetricInhibitory,
    "voltage_based": VoltageBased,
    "synaptic_scaling": SynapticScaling,
    "bcm": BCM,
    "oja": Oja,
}

__all__ = [
    "BCM", "PLASTICITIES", "Bounded", "Correlative", "EligibilityPropagation", "EventDriven", "Oja", "Plasticity",
    "PolicyGradient", "RateRegulated", "RewardedSpikeTiming", "SpikeTiming", "SymmetricInhibitory", "SynapticScaling",
    "ThreeFactor", "Tracking", "Triplet", "VoltageBased", "Window",
]  # fmt: skip
