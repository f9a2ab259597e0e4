"""e-prop by name."""

from typing import Unpack

from neurosbd.learning.online import LocalRule
from neurosbd.neuromodulators import FixedRandom, Full
from neurosbd.plasticity import EligibilityPropagation
from neurosbd.rules.composed import Parts, composed


def eprop(**parts: Unpack[Parts]) -> LocalRule:
    """e-prop: exact eligibility per synapse, filtered by the readout, times a broadcast error.

        ebar[t] = kappa ebar[t-1] + e[t];    d weight = sum_t (B third_factor[t]) ebar[t]

    B is fixed and random ('fixed_random', the default), the readout's own weights (neuromodulator 'transposed',
    symmetric e-prop) or follows them ('following', adaptive e-prop). The third factor is the score times the gain of
    the readout for the latter two, and the score itself for a random B, which is drawn without regard to the readout.
    Both are the same where that gain is 1.

    Source: Bellec et al. 2020, Nat. Commun. 11:3625.
    Differs: dense connections only; use sbd or dfa with their factorised eligibility for maps.
    """
    own: Parts = {
        "plasticity": EligibilityPropagation(),
        "neuromodulator": FixedRandom(Full(), 1.0),
        "eligibility": "exact",
    }
    return composed(parts, own)
