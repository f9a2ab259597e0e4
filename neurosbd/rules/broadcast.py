"""Rules that broadcast the score through a projection, learned or not: sbd, ebd, sbp, dfa."""

from dataclasses import replace
from typing import Literal, get_args

from neurosbd.constants import positive
from neurosbd.eligibility import EligibilityName
from neurosbd.errors import nearest
from neurosbd.expansions.expansion import Expansion
from neurosbd.neuromodulators import (
    ActivationName,
    Decorrelation,
    FixedRandom,
    Forgetting,
    Grid,
    Layout,
    Prediction,
    Shape,
    Shared,
)
from neurosbd.plasticity.three_factor import ThreeFactor
from neurosbd.regularisers.regulariser import Homeostasis, Upkeep
from neurosbd.rules.local_rule import LocalRule, regulated

Hearing = Literal["value", "filtered"]
SHARED = Shared()
GRID = Grid()


def sbd(
    projection: Layout = SHARED,
    scale: float = 0.02,
    learned: float = 1.0,
    forgetting: float = 0.9,
    forgetting_end: float = 1.0,
    forgetting_shape: Shape = "constant",
    activity: Hearing = "value",
    tau_activity: float = 20e-3,
    eligibility: EligibilityName = "factorised",
    delay: int = 0,
    rate_target: float = 10.0,
    rate_cost: float = 0.0,
    expansion: tuple[Expansion, ...] = (),
    homeostasis: tuple[Homeostasis, ...] = (),
    upkeep: tuple[Upkeep, ...] = (),
    forward_broadcast: float = 0.0,
    activations: tuple[ActivationName, ...] = ("identity",),
    expansion_forgetting: float = 0.998,
    fading: float = 1.0,
) -> LocalRule:
    """Score broadcast and decorrelation: EBD with the score of any admissible loss.

        R <- lam R + (1 - lam) mean score h^T;  d weight = ((R0 + learned R)^T score) e

    where e is the eligibility: gain x pre for rate neurons, gain x filtered pre for spiking ones.

    Args:
        projection: what has a column of its own in R, see LAYOUTS: `Shared()`, a channel; `Full()`, a unit.
        scale: standard deviation of the frozen part R0, >= 0.
        learned: weight of the learned part R, >= 0.
        forgetting: lam at the start of the training, 0..1, per batch.
        forgetting_end: lam at its end, 0..1 (unused when constant).
        forgetting_shape: 'constant', 'linear' or 'geometric'.
        activity: what h is: the 'value' (rate or spike) of the step, or the value 'filtered'.
        tau_activity: time constant of that filter, s, > 0.
        eligibility: 'factorised' (any connection) or 'exact' (per synapse, dense connections).
        delay: steps from the score to the third factor, >= 0.
        rate_target: firing rate that spiking units are drawn to, Hz, > 0.
        rate_cost: weight of that, >= 0.
        expansion: blocks of further columns for the score, see EXPANSIONS.
        homeostasis: what keeps the hidden populations alive, see HOMEOSTASES.
        upkeep: what keeps the weights of hidden connections fit, see UPKEEPS.
        forward_broadcast: how much the readout also descends 1/2 sum ||R||^2 through the score, >= 0; 0: not at all.
        activations: functions g of h that are decorrelated from the score, see ACTIVATIONS.
        expansion_forgetting: lam of the rows of R that belong to the expansion, 0..1, per batch.
        fading: what R0 is multiplied by per batch, 0..1. 1: it stays; as `forgetting`: R starts at R0, as in EBD.
    Source: Uzun, Erdogan, Pehlevan, Erdogan 2026, arXiv 2605.30638 (abstract only), on Erdogan et al. 2025.
    Differs: everything beyond EBD's equations with the score for the error is this project's own reading,
        and so is all of it for spiking neurons.
    """
    curve = Forgetting(forgetting, forgetting_end, forgetting_shape)
    return LocalRule(
        regulated(ThreeFactor(), rate_target, rate_cost),
        Decorrelation(
            projection, scale, learned, curve, activations, Forgetting(expansion_forgetting), Forgetting(fading)
        ),
        eligibility=eligibility,
        activity_filter=_time_constant(activity, tau_activity),
        delay=delay,
        expansion=expansion,
        homeostasis=homeostasis,
        upkeep=upkeep,
        forward_broadcast=forward_broadcast,
    )


def ebd(
    projection: Layout = SHARED,
    scale: float = 0.02,
    learned: float = 1.0,
    forgetting: float = 0.9,
    forgetting_end: float = 1.0,
    forgetting_shape: Shape = "constant",
    activity: Hearing = "value",
    tau_activity: float = 20e-3,
    eligibility: EligibilityName = "factorised",
    delay: int = 0,
    rate_target: float = 10.0,
    rate_cost: float = 0.0,
    expansion: tuple[Expansion, ...] = (),
    homeostasis: tuple[Homeostasis, ...] = (),
    upkeep: tuple[Upkeep, ...] = (),
    forward_broadcast: float = 0.0,
    activations: tuple[ActivationName, ...] = ("identity",),
    expansion_forgetting: float = 0.998,
    fading: float = 1.0,
) -> LocalRule:
    """Error broadcast and decorrelation: sbd with the squared error, whose score is output - target.

    Args: as sbd.
    Source: Erdogan, Pehlevan, Erdogan 2025, NeurIPS, arXiv 2504.11558.
    Differs: shared projection by default; R0 stays unless `fading` is set to `forgetting`.
    """
    constants = locals()
    return replace(sbd(**constants), loss="squared_error")


def sbp(
    projection: Layout = GRID,
    rate: float = 1e-2,
    scale: float = 0.02,
    own: float = 0.5,
    activity: Hearing = "value",
    tau_activity: float = 20e-3,
    eligibility: EligibilityName = "factorised",
    delay: int = 0,
    rate_target: float = 10.0,
    rate_cost: float = 0.0,
    homeostasis: tuple[Homeostasis, ...] = (),
    upkeep: tuple[Upkeep, ...] = (),
) -> LocalRule:
    """Score broadcast and prediction: the score through weights with which each population predicts the target itself.

        V descends l(V h, y);  d weight = (V^T score) e

    Where sbd projects by the correlation R of score and activity, which fades as both decorrelate, sbp projects by what
    brings the correlation of the population's own score with its activity to zero, which stays.

    Args:
        projection: what has a column of its own in V, see LAYOUTS: `Grid()`, a channel in each of 4 x 4 patches.
        rate: of V, its step per batch (Adam), > 0.
        scale: standard deviation of V at the start, >= 0.
        own: weight of the score of the population's own prediction in place of the broadcast one, 0..1.
        activity: what h is: the 'value' (rate or spike) of the step, or the value 'filtered'.
        tau_activity: time constant of that filter, s, > 0.
        eligibility: 'factorised' (any connection) or 'exact' (per synapse, dense connections).
        delay: steps from the score to the third factor, >= 0.
        rate_target: firing rate that spiking units are drawn to, Hz, > 0.
        rate_cost: weight of that, >= 0.
        homeostasis: what keeps the hidden populations alive, see HOMEOSTASES.
        upkeep: what keeps the weights of hidden connections fit, see UPKEEPS.
    Source: this project; kin and differences at `neurosbd.neuromodulators.Prediction`.
    """
    return LocalRule(
        regulated(ThreeFactor(), rate_target, rate_cost),
        Prediction(projection, rate, scale, own),
        eligibility=eligibility,
        activity_filter=_time_constant(activity, tau_activity),
        delay=delay,
        homeostasis=homeostasis,
        upkeep=upkeep,
    )


def dfa(
    projection: Layout = SHARED,
    scale: float = 0.02,
    eligibility: EligibilityName = "factorised",
    delay: int = 0,
    rate_target: float = 10.0,
    rate_cost: float = 0.0,
    homeostasis: tuple[Homeostasis, ...] = (),
    upkeep: tuple[Upkeep, ...] = (),
) -> LocalRule:
    """Direct feedback alignment: the score through a fixed random projection.

        d weight = (R0^T score) e

    Args:
        projection: what has a column of its own in R0, see LAYOUTS: `Shared()`, a channel; `Full()`, a unit.
        scale: standard deviation of R0, >= 0.
        eligibility: 'factorised' (any connection) or 'exact' (per synapse, dense connections).
        delay: steps from the score to the third factor, >= 0.
        rate_target: firing rate that spiking units are drawn to, Hz, > 0.
        rate_cost: weight of that, >= 0.
        homeostasis: what keeps the hidden populations alive, see HOMEOSTASES.
        upkeep: what keeps the weights of hidden connections fit, see UPKEEPS.
    Source: Nokland 2016, NeurIPS, arXiv 1609.01596.
    Differs: injected before pooling, as in EBD.
    """
    return LocalRule(
        regulated(ThreeFactor(), rate_target, rate_cost),
        FixedRandom(projection, scale),
        eligibility=eligibility,
        delay=delay,
        homeostasis=homeostasis,
        upkeep=upkeep,
    )


def _time_constant(activity: Hearing, tau: float) -> float | None:
    """Of the filter through which a neuromodulator hears the activity; None: there is none."""
    if activity not in get_args(Hearing):
        raise ValueError(f"activity: there is no '{activity}'{nearest(activity, get_args(Hearing))}")
    tau = positive(tau, "tau_activity")
    return tau if activity == "filtered" else None
