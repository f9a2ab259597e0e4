"""What a local rule is composed of: who changes the synapses, who tells them, and what all rules share."""

from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from typing import Annotated, Literal

from neurosbd.eligibility import EligibilityName
from neurosbd.errors import nearest
from neurosbd.expansions import EXPANSIONS
from neurosbd.expansions.expansion import Expansion
from neurosbd.neuromodulators import NEUROMODULATORS
from neurosbd.neuromodulators.neuromodulator import Correlating, HasHead, Neuromodulator
from neurosbd.plasticity import PLASTICITIES, Bounded, RateRegulated, ThreeFactor, Tracking
from neurosbd.plasticity.plasticity import Plasticity
from neurosbd.regularisers import HOMEOSTASES, UPKEEPS
from neurosbd.regularisers.regulariser import Homeostasis, Upkeep
from neurosbd.schema.constants import Hertz, NotNegative, Range, Seconds, constants

Delay = Annotated[int, Range(least=0, unit="steps")]
ReadoutName = Literal["gradient", "rule", "score"]
_TABLES: Mapping[str, tuple[str, Mapping[str, object]]] = {  # of a part: its table, as it is called at the top
    "plasticity": ("plasticities", PLASTICITIES),
    "neuromodulator": ("neuromodulators", NEUROMODULATORS),
    "expansion": ("expansions", EXPANSIONS),
    "homeostasis": ("homeostases", HOMEOSTASES),
    "upkeep": ("upkeeps", UPKEEPS),
}


@constants(called="rule")
class Composition:
    """A plasticity, the neuromodulator that feeds it, and how both listen.

    Args:
        plasticity: makes gradients from local quantities, see PLASTICITIES.
        neuromodulator: makes the third factor, see NEUROMODULATORS; None for a rule without one.
        eligibility: how the effect of a synapse is followed, see ELIGIBILITIES.
        activity_filter: time constant of the filter on the activity that the neuromodulator sees, s; None: no filter.
        delay: steps between the score or reward and the arrival of the third factor, >= 0.
        readout: 'gradient': the last population descends its own local gradient of the loss; 'rule': it learns
            like the others; 'score': like the others, with the score itself as its third factor.
        rate_target: firing rate that spiking units are drawn to, Hz, > 0.
        rate_cost: weight of that, >= 0, per (spikes per ms)^2.
        expansion: blocks of further columns, which the neuromodulators hear beside the score, see EXPANSIONS.
        homeostasis: added to the third factor of every hidden population that follows the rule, see HOMEOSTASES.
        upkeep: added to the gradient of every plastic connection onto such a population, once per batch, see UPKEEPS.
        forward_broadcast: how much the readout also descends the costs 1/2 ||R||^2 of all those populations through
            the score, >= 0; 0: not at all. Needs a neuromodulator that keeps R.
        loss: the loss this rule is defined for; None: any.
    Raises:
        ValueError: if a constant is out of range.
    """

    plasticity: Plasticity = field(default_factory=ThreeFactor)
    neuromodulator: Neuromodulator | None = None
    eligibility: EligibilityName = "factorised"
    activity_filter: Seconds | None = None
    delay: Delay = 0
    readout: ReadoutName = "gradient"
    rate_target: Hertz = 10.0
    rate_cost: NotNegative = 0.0
    expansion: tuple[Expansion, ...] = ()
    homeostasis: tuple[Homeostasis, ...] = ()
    upkeep: tuple[Upkeep, ...] = ()
    forward_broadcast: NotNegative = 0.0
    loss: str | None = None

    def __post_init__(self) -> None:
        check_made(vars(self), {})
        if self.forward_broadcast and not (self.readout == "gradient" and isinstance(self.neuromodulator, Correlating)):
            raise ValueError(
                "forward_broadcast needs a neuromodulator that keeps the correlation of score and activity "
                "('decorrelation'), and a readout that descends its gradient"
            )

    @property
    def rewarded(self) -> bool:
        """Whether the neuromodulator wants a reward, not a score."""
        return self.neuromodulator is not None and self.neuromodulator.rewarded

    def parts(self) -> dict[str, tuple[object, ...]]:
        """What it is composed of, by the kind of their tables."""
        modulators = () if self.neuromodulator is None else (self.neuromodulator,)
        return {
            "plasticities": (self.plasticity,), "neuromodulators": modulators, "expansions": self.expansion,
            "homeostases": self.homeostasis, "upkeeps": self.upkeep,
        }  # fmt: skip

    def takes(self, part: str, value: object) -> bool:
        """Whether a part that was meant for another rule has a meaning for this one."""
        modulator, plasticity = self.neuromodulator, self.plasticity
        return {
            "eligibility": value in plasticity.eligibilities,
            "activity_filter": modulator is not None and modulator.reads_activity,
            "delay": modulator is not None and not isinstance(plasticity, Tracking),
            "rate_target": plasticity.rate_regulated,
            "rate_cost": plasticity.rate_regulated,
            "expansion": isinstance(modulator, Correlating),
            "homeostasis": self.scored,
            "upkeep": self.scored,
            "forward_broadcast": isinstance(modulator, Correlating) and self.readout == "gradient",
        }.get(part, False)

    @cached_property
    def has_heads(self) -> bool:
        """Whether its neuromodulator has heads that read populations; asked once, since the answer takes 20 us."""
        return isinstance(self.neuromodulator, HasHead)

    @property
    def scored(self) -> bool:
        """Whether a score reaches its neuromodulator."""
        return self.neuromodulator is not None and not self.rewarded

    @property
    def hears_loss(self) -> bool:
        """Whether a score reaches its neuromodulator, or the readout descends the loss."""
        return self.scored or self.readout == "gradient"

    @property
    def states_changes(self) -> bool:
        """Whether its gradients are minus changes of the weights whose size is part of the rule, so that an optimizer
        should scale them and no more: plain SGD, where a model names none."""
        return self.plasticity.states_changes

    @property
    def bounds(self) -> tuple[float, float] | None:
        """To which the weights that follow the rule are clamped after each update; None: free."""
        return self.plasticity.bounds if isinstance(self.plasticity, Bounded) else None

    @property
    def regulated(self) -> Plasticity:
        """The plasticity with its firing rates drawn to `rate_target`, unless that costs nothing."""
        if not self.rate_cost:
            return self.plasticity
        return RateRegulated(self.plasticity, self.rate_target, self.rate_cost)


def check_made(parts: Mapping[str, object], own: Mapping[str, object]) -> None:
    """ValueError of a name, a table of constants or a class where a part is wanted, with the way to make one.

    Args:
        parts: by name.
        own: those of the rule, of which constants alone are likely to be meant.
    """
    for key, (kind, table) in _TABLES.items():
        given = parts.get(key)
        for part in given if isinstance(given, tuple | list) else (given,):
            if not isinstance(part, str | Mapping | type):
                continue
            constants = dict(part) if isinstance(part, Mapping) else {}
            named = part if isinstance(part, str) else constants.pop("kind", None)
            if named is not None and named not in table:
                raise ValueError(f"{key}: there is no {named!r}{nearest(str(named), table)}; for none at all give None")
            likely = (part, type(own.get(key)))
            name = named or next((n for n, make in table.items() if make in likely), next(iter(table)))
            written = ", ".join(f"{k}={v!r}" for k, v in constants.items())
            what = part.__name__ if isinstance(part, type) else repr(part)
            raise ValueError(f"{key}: must be made, got {what}; write neurosbd.{kind}[{name!r}]({written})")
