"""Homeostases and upkeeps: pure, proportional to their weight, however a batch is cut."""

from neurosbd.testing import Check, maker
from tests.contracts.tables import checked


@checked("homeostases")
def test_homeostases_keep_their_contract(name: str, check: Check) -> None:
    check(maker("homeostases", name))


@checked("upkeeps")
def test_upkeeps_keep_their_contract(name: str, check: Check) -> None:
    check(maker("upkeeps", name))
