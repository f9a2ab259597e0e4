"""What a local rule is made of: who changes the synapses, and who tells them."""

import math
from dataclasses import dataclass
from typing import Literal

from neurosbd.constants import check_constants
from neurosbd.eligibility import EligibilityName
from neurosbd.expansions.expansion import Expansion
from neurosbd.neuromodulators.neuromodulator import Correlating, Neuromodulator
from neurosbd.plasticity.eligibility_propagation import RateRegulated
from neurosbd.plasticity.plasticity import Plasticity
from neurosbd.regularisers.regulariser import Homeostasis, Upkeep

Readout = Literal["gradient", "rule"]


@dataclass(frozen=True)
class LocalRule:
    """A plasticity, the neuromodulator that feeds it, and how both listen.

    Args:
        plasticity: makes gradients from local quantities.
        neuromodulator: makes the third factor; None for a rule without one.
        loss: the loss this rule is defined for; None: any.
        eligibility: how the effect of a synapse is followed, see ELIGIBILITIES.
        activity_filter: time constant of the filter on the activity that the neuromodulator sees, s; None: no filter.
        delay: steps between the score or reward and the arrival of the third factor, >= 0.
        readout: 'gradient': the last population descends its own local gradient of the loss; 'rule': it learns
            like the others; 'score': like the others, with the score itself as its third factor.
        rewarded: the neuromodulator wants a reward, not a score.
        expansion: blocks of further columns, which the neuromodulators hear beside the score.
        homeostasis: added to the third factor of every hidden population that follows the rule.
        upkeep: added to the gradient of every plastic connection onto such a population, once per batch.
        forward_broadcast: how much the readout also descends the costs 1/2 ||R||^2 of all those populations through
            the score, >= 0; 0: not at all. Needs a neuromodulator that keeps R.
        bounds: to which the weights that follow the rule are clamped after each update; None: free.
        states_changes: its gradients are minus changes of the weights whose size is part of the rule, so that an
            optimizer should scale them and no more: plain SGD, where a model names none.
    Raises:
        ValueError: if a constant is out of range.
    """

    plasticity: Plasticity
    neuromodulator: Neuromodulator | None
    loss: str | None = None
    eligibility: EligibilityName = "factorised"
    activity_filter: float | None = None
    delay: int = 0
    readout: Readout | Literal["score"] = "gradient"
    rewarded: bool = False
    expansion: tuple[Expansion, ...] = ()
    homeostasis: tuple[Homeostasis, ...] = ()
    upkeep: tuple[Upkeep, ...] = ()
    forward_broadcast: float = 0.0
    bounds: tuple[float, float] | None = None
    states_changes: bool = False

    def __post_init__(self) -> None:
        check_constants(self, "rule")
        if self.delay < 0:
            raise ValueError(f"the delay of a third factor must be 0 or more steps, got {self.delay}")
        if self.activity_filter is not None and not self.activity_filter > 0:
            raise ValueError(f"tau_activity must be a positive time in s, got {self.activity_filter}")
        if not 0 <= self.forward_broadcast < math.inf:
            raise ValueError(f"forward_broadcast must be a number >= 0, got {self.forward_broadcast}")
        if self.forward_broadcast and not (self.readout == "gradient" and isinstance(self.neuromodulator, Correlating)):
            raise ValueError(
                "forward_broadcast needs a neuromodulator that keeps the correlation of score and activity "
                "(Decorrelation), and a readout that descends its gradient"
            )


def regulated(plasticity: Plasticity, target: float, cost: float) -> Plasticity:
    """The same rule with its firing rates drawn to `target` Hz, unless that costs nothing."""
    drawn = RateRegulated(plasticity, target, cost)  # which checks both, whether they are used or not
    return drawn if drawn.cost else plasticity
