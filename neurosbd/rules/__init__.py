"""Learning rules by name. Layer 1."""

from collections.abc import Callable

from neurosbd.rules.backprop import Backprop, bp
from neurosbd.rules.broadcast import Broadcast, dfa, ebd, sbd
from neurosbd.rules.three_factor import ThreeFactor

Rule = Broadcast | Backprop

RULES: dict[str, Callable[..., Rule]] = {"sbd": sbd, "ebd": ebd, "dfa": dfa, "bp": bp}

__all__ = ["RULES", "Backprop", "Broadcast", "Rule", "ThreeFactor"]
