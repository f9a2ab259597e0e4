"""Random-feedback local online learning by name."""

from typing import Unpack

from neurosbd.learning.online import LocalRule
from neurosbd.neuromodulators import FixedRandom, Full
from neurosbd.plasticity import ThreeFactor
from neurosbd.rules.composed import Parts, composed


def rflo(**parts: Unpack[Parts]) -> LocalRule:
    """Random-feedback local online learning: the error through fixed weights, times what each synapse did to its unit.

        e[t] = kept e[t-1] + (1 - kept) f'(drive[t]) pre[t];    d weight = sum_t (M^T score[t]) e[t]

    for units 'leaky_rate', kept = exp(-dt / tau_mem); of other neurons e is their exact eligibility. M is fixed and
    random ('fixed_random', the default), has a chosen overlap with the readout (neuromodulator 'aligned'), or is the
    readout itself ('transposed'). Nothing goes back in time or through other units.

    Source: Murray 2019, eLife 8:e43299, equations 9-11; M of chosen overlap: Portes, Schmid, Murray 2022, NeurIPS.
    Differs: M is Gaussian with standard deviation `scale`; the readout descends its own gradient, as there. An
        eligibility is kept for each synapse and example, so dense connections only.
    """
    own: Parts = {
        "plasticity": ThreeFactor(),
        "neuromodulator": FixedRandom(Full(), 1.0),
        "eligibility": "exact",
    }
    return composed(parts, own)
