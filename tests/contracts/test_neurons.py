"""Neurons: the gain is the derivative, the step is pure."""

from neurosbd.testing import Check, maker
from tests.contracts.tables import checked


@checked("neurons")
def test_neurons_keep_their_contract(name: str, check: Check) -> None:
    check(maker("neurons", name))
