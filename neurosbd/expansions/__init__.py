"""Expansions of the score: further columns whose conditional mean is zero at the optimum."""

from collections.abc import Callable

from neurosbd.expansions.bartlett import Bartlett, Pairs
from neurosbd.expansions.coarse import Coarse, Groups
from neurosbd.expansions.companion_score import CompanionScore
from neurosbd.expansions.expansion import Expansion
from neurosbd.expansions.gated import Gated, Gates
from neurosbd.expansions.scaling import Moments, loudness, match_loudness, silent_moments, update_moments
from neurosbd.expansions.waves import Waves
from neurosbd.schema.namespace import is_table

EXPANSIONS: dict[str, Callable[..., Expansion]] = {
    "gated": Gated,
    "bartlett": Bartlett,
    "another": CompanionScore,
    "coarse": Coarse,
    "waves": Waves,
}
is_table(__name__, EXPANSIONS)

__all__ = [
    "EXPANSIONS",
    "Bartlett",
    "Coarse",
    "CompanionScore",
    "Gated",
    "Gates",
    "Groups",
    "Moments",
    "Pairs",
    "Waves",
    "loudness",
    "match_loudness",
    "silent_moments",
    "update_moments",
]  # fmt: skip
