"""Named rules as compositions: their own parts, with others in their place."""

from collections.abc import Mapping
from typing import TypedDict

from neurosbd.eligibility import EligibilityName
from neurosbd.errors import nearest
from neurosbd.expansions.expansion import Expansion
from neurosbd.learning.composition import Composition, Delay, ReadoutName, check_made
from neurosbd.learning.online import LocalRule
from neurosbd.neuromodulators import NEUROMODULATORS
from neurosbd.neuromodulators.neuromodulator import Neuromodulator
from neurosbd.plasticity import PLASTICITIES
from neurosbd.plasticity.plasticity import Plasticity
from neurosbd.regularisers.regulariser import Homeostasis, Upkeep
from neurosbd.schema.constants import Hertz, NotNegative, Seconds


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
    check_made(parts, own)
    rule = LocalRule(**(own | parts), loss=loss)
    for objection in _objections(rule):
        raise ValueError(objection)
    return rule


def _name(part: object, table: Mapping[str, object]) -> str:
    """What model files call a part, else its class."""
    return next((f"'{name}'" for name, make in table.items() if make is type(part)), type(part).__name__)


def _objections(rule: Composition) -> list[str]:
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
