"""What a local rule is composed of: who changes the synapses, who tells them, and what all rules share."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal, TypedDict

from neurosbd.constants import Hertz, NotNegative, Range, Seconds, constants
from neurosbd.eligibility import EligibilityName
from neurosbd.errors import nearest
from neurosbd.expansions import EXPANSIONS
from neurosbd.expansions.expansion import Expansion
from neurosbd.neuromodulators import NEUROMODULATORS
from neurosbd.neuromodulators.neuromodulator import Correlating, Neuromodulator
from neurosbd.plasticity import PLASTICITIES, Bounded, RateRegulated, ThreeFactor, Tracking
from neurosbd.plasticity.plasticity import Plasticity
from neurosbd.regularisers import HOMEOSTASES, UPKEEPS
from neurosbd.regularisers.regulariser import Homeostasis, Upkeep

Delay = Annotated[int, Range(least=0, unit="steps")]
ReadoutName = Literal["gradient", "rule", "score"]
_TABLES: Mapping[str, tuple[str, Mapping[str, object]]] = {  # of a part: its table, as it is called at the top
    "plasticity": ("plasticities", PLASTICITIES),
    "neuromodulator": ("neuromodulators", NEUROMODULATORS),
    "expansion": ("expansions", EXPANSIONS),
    "homeostasis": ("homeostases", HOMEOSTASES),
    "upkeep": ("upkeeps", UPKEEPS),
}


class Parts(TypedDict, total=False):
    """What any named rule can be given in place of its own; `LocalRule` says what each is."""

    plasticity: Plasticity
    neuromodulator: Neuromodulator | None
    eligibility: EligibilityName
    activity_filter: Seconds | None
    delay: Delay
    readout: ReadoutName
    rate_target: Hertz
    rate_cost: NotNegative
    expansion: tuple[Expansion, ...]
    homeostasis: tuple[Homeostasis, ...]
    upkeep: tuple[Upkeep, ...]
    forward_broadcast: NotNegative


@constants(called="rule")
class LocalRule:
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
        _check_made(vars(self), {})
        if self.forward_broadcast and not (self.readout == "gradient" and isinstance(self.neuromodulator, Correlating)):
            raise ValueError(
                "forward_broadcast needs a neuromodulator that keeps the correlation of score and activity "
                "('decorrelation'), and a readout that descends its gradient"
            )

    @property
    def rewarded(self) -> bool:
        """Whether the neuromodulator wants a reward, not a score."""
        return self.neuromodulator is not None and self.neuromodulator.rewarded

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


def composed(parts: Parts, own: Parts, loss: str | None = None) -> LocalRule:
    """A named rule: its own parts, with others in their place.

    Args:
        parts: in place of its own.
        own: of the rule.
        loss: that it is defined for.
    Raises:
        ValueError: if a part is unknown, or the parts do not go together.
    """
    unknown = next((part for part in parts if part not in Parts.__annotations__), None)
    if unknown is not None:
        raise ValueError(
            f"a rule has no part '{unknown}'{nearest(unknown, Parts.__annotations__)}. Constants are those of a part: "
            f"neuromodulator=neurosbd.neuromodulators['decorrelation'](scale=0.1), say"
        )
    _check_made(parts, own)
    rule = LocalRule(**(own | parts), loss=loss)
    for objection in _objections(rule):
        raise ValueError(objection)
    return rule


def _name(part: object, table: Mapping[str, object]) -> str:
    """What model files call a part, else its class."""
    return next((f"'{name}'" for name, make in table.items() if make is type(part)), type(part).__name__)


def _objections(rule: LocalRule) -> list[str]:
    """Why the parts of a rule do not go together."""
    plasticity, modulator, said = rule.plasticity, rule.neuromodulator, []
    name, sender = _name(plasticity, PLASTICITIES), _name(modulator, NEUROMODULATORS)
    if plasticity.modulated and modulator is None:
        said.append(f"plasticity {name} changes nothing without a third factor; set a neuromodulator: {_listed()}")
    if modulator is not None and not plasticity.modulated:
        said.append(
            f"plasticity {name} takes no third factor, so neuromodulator {sender} would not be heard; set another "
            f"plasticity, such as 'rewarded_spike_timing', or neuromodulator = 'none' (in Python None)"
        )
    legal = plasticity.eligibilities or ("factorised",)
    if rule.eligibility not in legal:
        said.append(
            f"eligibility: plasticity {name} works with {' or '.join(map(repr, legal))}, got '{rule.eligibility}'"
        )
    if rule.rewarded and (rule.expansion or rule.homeostasis):
        part = "expansion" if rule.expansion else "homeostasis"
        said.append(f"{part} goes with a score, but neuromodulator {sender} is sent a reward; leave it out")
    if rule.rate_cost and not plasticity.rate_regulated:
        said.append(f"rate_cost: plasticity {name} does not regulate firing rates; set it to 0")
    if rule.activity_filter is not None and not (modulator is not None and modulator.reads_activity):
        who = "there is no neuromodulator that" if modulator is None else f"neuromodulator {sender} is none that"
        said.append(f"activity_filter: {who} looks at the activity of a population; leave it out")
    return said


def _listed() -> str:
    return ", ".join(NEUROMODULATORS)


def _check_made(parts: Mapping[str, object], own: Mapping[str, object]) -> None:
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


def takes(rule: LocalRule, part: str, value: object) -> bool:
    """Whether a part that was meant for another rule has a meaning for this one."""
    modulator, plasticity = rule.neuromodulator, rule.plasticity
    scored = modulator is not None and not rule.rewarded
    return {
        "eligibility": value in plasticity.eligibilities,
        "activity_filter": modulator is not None and modulator.reads_activity,
        "delay": modulator is not None and not isinstance(plasticity, Tracking),
        "rate_target": plasticity.rate_regulated,
        "rate_cost": plasticity.rate_regulated,
        "expansion": isinstance(modulator, Correlating),
        "homeostasis": scored,
        "upkeep": scored,
        "forward_broadcast": isinstance(modulator, Correlating) and rule.readout == "gradient",
    }.get(part, False)
