"""CorInfoMax-EBD by name."""

from typing import Unpack

from neurosbd.learning.online import LocalRule
from neurosbd.neuromodulators import Decorrelation
from neurosbd.plasticity import Correlative
from neurosbd.rules.composed import Parts, composed


def corinfomax(**parts: Unpack[Parts]) -> LocalRule:
    """CorInfoMax-EBD: a recurrent network of three-compartment neurons learns at rest, in a single free phase.

        R <- lam R + (1 - lam) mean score r^T;   q = (R0 + learned R)^T score, the score itself at the last layer
        d forward weight  = gain q pre^T - forward (r - basal) pre^T
        d backward weight = apical gain q pre^T - backward (r - apical) pre^T
        B, the inverse correlation of a layer, follows its activity

    Source: Erdogan, Pehlevan, Erdogan 2025, NeurIPS, arXiv 2504.11558, section 3.2 and appendix I.2.
    Differs: the last layer descends its own local gradient of the squared error; there it is one more decorrelated
        layer. R0 does not fade. B is the exact inverse, and starts where the model file says.
    """
    own: Parts = {
        "plasticity": Correlative(),
        "neuromodulator": Decorrelation(),
        "eligibility": "settled",
        "readout": "score",
    }
    return composed(parts, own, loss="squared_error")
