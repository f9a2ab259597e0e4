"""Eligibility: what a synapse did to the value of its postsynaptic unit. Layer 1."""

from collections.abc import Callable
from typing import Literal

from neurosbd.eligibility.exact import Exact
from neurosbd.eligibility.factorised import Factorised, Factors

EligibilityName = Literal["factorised", "exact"]

ELIGIBILITIES: dict[EligibilityName, Callable[[], Factorised | Exact]] = {"factorised": Factorised, "exact": Exact}

__all__ = ["ELIGIBILITIES", "EligibilityName", "Exact", "Factorised", "Factors"]
