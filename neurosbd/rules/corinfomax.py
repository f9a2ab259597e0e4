"""CorInfoMax-EBD by name."""

from neurosbd.expansions.expansion import Expansion
from neurosbd.neuromodulators import Decorrelation, Forgetting, Layout, Shape
from neurosbd.plasticity.correlative import Correlative
from neurosbd.regularisers.regulariser import Homeostasis
from neurosbd.rules.broadcast import SHARED
from neurosbd.rules.local_rule import LocalRule


def corinfomax(
    projection: Layout = SHARED,
    scale: float = 0.02,
    learned: float = 1.0,
    forgetting: float = 0.9,
    forgetting_end: float = 1.0,
    forgetting_shape: Shape = "constant",
    forward: float = 0.0,
    backward: float = 0.0,
    apical: float = 1.0,
    lateral: float = 0.0,
    memory: float = 0.9999,
    expansion: tuple[Expansion, ...] = (),
    homeostasis: tuple[Homeostasis, ...] = (),
) -> LocalRule:
    """CorInfoMax-EBD: a recurrent network of three-compartment neurons learns at rest, in a single free phase.

        R <- lam R + (1 - lam) mean score r^T;   q = (R0 + learned R)^T score, the score itself at the last layer
        d forward weight  = gain q pre^T - forward (r - basal) pre^T
        d backward weight = apical gain q pre^T - backward (r - apical) pre^T
        B, the inverse correlation of a layer, follows its activity

    Args:
        projection, scale, learned, forgetting, forgetting_end, forgetting_shape, expansion, homeostasis: as ebd.
        forward: weight of predicting the rate from below, >= 0.
        backward: weight of predicting it from above, >= 0.
        apical: weight of the third factor at apical synapses, >= 0.
        lateral: weight of the third factor at lateral synapses, per batch, >= 0.
        memory: lam of the correlations in B, per batch, 0 < memory <= 1.
    Source: Erdogan, Pehlevan, Erdogan 2025, NeurIPS, arXiv 2504.11558, section 3.2 and appendix I.2.
    Differs: the last layer descends its own local gradient of the squared error; there it is one more decorrelated
        layer. R0 does not fade. B is the exact inverse, and starts where the model file says.
    """
    plasticity = Correlative(forward, backward, apical, lateral, memory)
    modulator = Decorrelation(projection, scale, learned, Forgetting(forgetting, forgetting_end, forgetting_shape))
    return LocalRule(
        plasticity,
        modulator,
        loss="squared_error",
        eligibility="settled",
        readout="score",
        expansion=expansion,
        homeostasis=homeostasis,
    )
