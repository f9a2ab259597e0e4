"""Eligibility: what a synapse did to the value of its postsynaptic unit."""

from collections.abc import Callable
from typing import Literal

from neurosbd.eligibility.exact import Exact
from neurosbd.eligibility.factorised import Factorised, Factors
from neurosbd.eligibility.settled import Settled

EligibilityName = Literal["factorised", "exact", "settled"]

ELIGIBILITIES: dict[EligibilityName, Callable[[], Factorised | Exact | Settled]] = {
    "factorised": Factorised,
    "exact": Exact,
    "settled": Settled,
}

__all__ = ["ELIGIBILITIES", "EligibilityName", "Exact", "Factorised", "Factors", "Settled"]
