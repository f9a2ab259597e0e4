"""Every shipped part passes every check of its kind: a new part is tested without touching a test."""

import pytest

from neurosbd.tables import CONTRACTS, TABLES
from neurosbd.testing import CHECKS, Check, maker

CASES = [(kind, name, check) for kind, checks in CHECKS.items() for name in TABLES[kind] for check in checks]


@pytest.mark.parametrize(("kind", "name", "check"), CASES, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_shipped_parts_keep_their_contract(kind: str, name: str, check: Check) -> None:
    check(maker(kind, name))


def test_every_kind_with_a_contract_has_checks() -> None:
    """Must fail for a kind that is left out (tried)."""
    assert set(CHECKS) == {*CONTRACTS, "rules"}
