"""Rules that broadcast the score: which plasticity, which neuromodulator, which loss."""

from dataclasses import dataclass
from typing import Literal

from neurosbd.neuromodulators import LAYOUTS, Decorrelation, FixedRandom, Forgetting
from neurosbd.process import Neuromodulator, Plasticity
from neurosbd.rules.three_factor import ThreeFactor

LayoutName = Literal["full", "shared"]
Shape = Literal["constant", "linear", "geometric"]


@dataclass(frozen=True)
class Broadcast:
    """A local rule and the neuromodulator that feeds it; the readout learns from the score itself."""

    plasticity: Plasticity
    neuromodulator: Neuromodulator
    loss: str | None = None  # the loss this rule is defined for; none: any


def sbd(
    projection: LayoutName = "shared",
    scale: float = 0.02,
    learned: float = 1.0,
    forgetting: float = 0.9,
    forgetting_end: float = 1.0,
    forgetting_shape: Shape = "constant",
) -> Broadcast:
    """Score broadcast and decorrelation: EBD with the score of any admissible loss.

        R <- lam R + (1 - lam) mean score h^T;  d weight = ((R0 + learned R)^T score) gain x pre

    Args:
        projection: 'shared' over the positions of a map, or 'full' (one row per unit).
        scale: standard deviation of the frozen part R0, >= 0.
        learned: weight of the learned part R, >= 0.
        forgetting: lam at the start of the training, 0..1.
        forgetting_end: lam at its end, 0..1 (unused when constant).
        forgetting_shape: 'constant', 'linear' or 'geometric'.
    Source: Uzun, Erdogan, Pehlevan, Erdogan 2026, arXiv 2605.30638 (abstract only), on Erdogan et al. 2025.
    Differs: everything beyond EBD's equations with the score for the error is this project's own reading.
    """
    curve = Forgetting(forgetting, forgetting_end, forgetting_shape)
    return Broadcast(ThreeFactor(), Decorrelation(LAYOUTS[projection](), scale, learned, curve))


def ebd(
    projection: LayoutName = "shared",
    scale: float = 0.02,
    learned: float = 1.0,
    forgetting: float = 0.9,
    forgetting_end: float = 1.0,
    forgetting_shape: Shape = "constant",
) -> Broadcast:
    """Error broadcast and decorrelation: sbd with the squared error, whose score is output - target.

    Args: as sbd.
    Source: Erdogan, Pehlevan, Erdogan 2025, NeurIPS, arXiv 2504.11558.
    Differs: shared projection by default; R0 does not fade.
    """
    rule = sbd(projection, scale, learned, forgetting, forgetting_end, forgetting_shape)
    return Broadcast(rule.plasticity, rule.neuromodulator, loss="squared_error")


def dfa(projection: LayoutName = "shared", scale: float = 0.02) -> Broadcast:
    """Direct feedback alignment: the score through a fixed random projection.

        d weight = (R0^T score) gain x pre

    Args:
        projection: 'shared' over the positions of a map, or 'full' (one row per unit).
        scale: standard deviation of R0, >= 0.
    Source: Nokland 2016, NeurIPS, arXiv 1609.01596.
    Differs: injected before pooling, as in EBD.
    """
    return Broadcast(ThreeFactor(), FixedRandom(LAYOUTS[projection](), scale))
