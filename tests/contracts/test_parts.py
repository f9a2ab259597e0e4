"""Every shipped part passes every check of its kind: a new part is tested without touching a test."""

import pytest

from neurosbd.tables import CONTRACTS, TABLES
from neurosbd.testing import CHECKS, READ, Check, maker

NAMES = [(kind, name) for kind in CHECKS for name in TABLES[kind] if name not in READ]
CASES = [(kind, name, check) for kind, name in NAMES for check in CHECKS[kind]]


@pytest.mark.parametrize(("kind", "name", "check"), CASES, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_shipped_parts_keep_their_contract(kind: str, name: str, check: Check) -> None:
    check(maker(kind, name))


def test_every_kind_with_a_contract_has_checks() -> None:
    """Must fail for a kind that is left out (tried)."""
    assert set(CHECKS) == {*CONTRACTS, "rules"}
