"""Rules: they fill .grad, change nothing else, and learn."""

from typing import Any

import pytest

from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.rules import RULES
from neurosbd.testing.networks import cnn, lc
from tests.contracts.tables import every, seeded

DENSE_ONLY = {"eprop"}  # rules that say they need a dense connection
DRAWN = {"rmax", "reinforce"}  # and neurons that draw their spikes or values
VECTORS = {"gevb"}  # and units whose values are vectors
SETTLING = {"corinfomax_ep"}  # and networks that settle
FIRST_SPIKES = {"s2_stdp", "sstdp", "rstdp_readout", "wta_stdp"}  # and units that add up what arrives


@every([name for name in RULES if name not in DRAWN | VECTORS | SETTLING | FIRST_SPIKES])
@pytest.mark.parametrize("make", [cnn, lc])
def test_only_rules_for_dense_connections_refuse_maps(name: str, make: Any) -> None:
    rule = RULES[name]()
    loss = LOSSES[rule.loss or "cross_entropy"]()
    if name not in DENSE_ONLY:
        Learner(make(), rule, loss, seeded())
        return
    with pytest.raises(ValueError, match=r"input->.*dense"):
        Learner(make(), rule, loss, seeded())
