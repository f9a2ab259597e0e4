"""Learning rules by name. Layer 1."""

from collections.abc import Callable

from neurosbd.rules.backprop import Backprop, bp, bptt
from neurosbd.rules.broadcast import dfa, ebd, sbd, sbp
from neurosbd.rules.corinfomax import corinfomax
from neurosbd.rules.correlative import Correlative
from neurosbd.rules.eligibility_propagation import EligibilityPropagation, RateRegulated
from neurosbd.rules.eprop import eprop
from neurosbd.rules.local_rule import LocalRule
from neurosbd.rules.reward import rmax, rstdp, stdp
from neurosbd.rules.spike_timing import PolicyGradient, RewardedSpikeTiming, SpikeTiming, Window
from neurosbd.rules.three_factor import ThreeFactor

Rule = LocalRule | Backprop

RULES: dict[str, Callable[..., Rule]] = {
    "sbd": sbd,
    "ebd": ebd,
    "sbp": sbp,
    "dfa": dfa,
    "corinfomax": corinfomax,
    "eprop": eprop,
    "rstdp": rstdp,
    "rmax": rmax,
    "stdp": stdp,
    "bp": bp,
    "bptt": bptt,
}

__all__ = [
    "RULES", "Backprop", "Correlative", "EligibilityPropagation", "LocalRule", "PolicyGradient", "RateRegulated",
    "RewardedSpikeTiming", "Rule", "SpikeTiming", "ThreeFactor", "Window",
]  # fmt: skip
