"""e-prop by name."""

from typing import Literal

from neurosbd.neuromodulators import FixedRandom, Following, Full, Transposed
from neurosbd.neuromodulators.neuromodulator import Neuromodulator
from neurosbd.plasticity.eligibility_propagation import EligibilityPropagation
from neurosbd.rules.local_rule import LocalRule, regulated

FeedbackName = Literal["symmetric", "random", "adaptive"]


def eprop(
    feedback: FeedbackName = "random",
    scale: float = 1.0,
    forgetting: float = 0.01,
    rate_target: float = 10.0,
    rate_cost: float = 0.0,
    delay: int = 0,
) -> LocalRule:
    """e-prop: exact eligibility per synapse, filtered by the readout, times a broadcast error.

        ebar[t] = kappa ebar[t-1] + e[t];    d weight = sum_t (B third_factor[t]) ebar[t]

    The third factor is the score times the gain of the readout for symmetric and adaptive feedback, and the score
    itself for random feedback, where B is drawn without regard to the readout. Both are the same where that gain is 1.

    Args:
        feedback: B is the readout's own weights ('symmetric'), fixed and 'random', or 'adaptive' (follows the readout).
        scale: standard deviation of a random or adaptive B at the start, >= 0.
        forgetting: how much of the difference to the readout an adaptive B loses per batch, 0..1.
        rate_target: firing rate that spiking units are drawn to, Hz, > 0.
        rate_cost: weight of that, >= 0, per (spikes per ms)^2.
        delay: steps from the score to the third factor, >= 0.
    Source: Bellec et al. 2020, Nat. Commun. 11:3625.
    Differs: dense connections only; use sbd or dfa with their factorised eligibility for maps.
    """
    made: dict[str, Neuromodulator] = {
        "symmetric": Transposed(),
        "random": FixedRandom(Full(), scale),
        "adaptive": Following(scale, forgetting),
    }
    plasticity = regulated(EligibilityPropagation(), rate_target, rate_cost)
    return LocalRule(plasticity, made[feedback], eligibility="exact", delay=delay)
