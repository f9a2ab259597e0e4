"""Expansions: pure, as wide as they say, one example at a time."""

from neurosbd.testing import Check, maker
from tests.contracts.tables import checked


@checked("expansions")
def test_expansions_keep_their_contract(name: str, check: Check) -> None:
    check(maker("expansions", name))
