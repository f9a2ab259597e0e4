"""Every entry of every table is documented and a value; a new table goes into TABLES."""

import dataclasses
import inspect
from typing import Any

import pytest

from neurosbd.catalogue import catalogue
from neurosbd.connections import CONNECTIONS, INITIALISERS, POOLINGS
from neurosbd.datasets.processes import PROCESSES
from neurosbd.distributions import DISTRIBUTIONS
from neurosbd.eligibility import ELIGIBILITIES
from neurosbd.encoders import ENCODERS
from neurosbd.expansions import EXPANSIONS
from neurosbd.learning.optimizers import OPTIMIZERS, SCHEDULES
from neurosbd.losses import LOSSES
from neurosbd.neuromodulators import LAYOUTS, NEUROMODULATORS
from neurosbd.neurons import NEURONS
from neurosbd.regularisers import HOMEOSTASES, UPKEEPS
from neurosbd.rules import RULES
from neurosbd.surrogates import SURROGATES
from tests.contracts.tables import made

TABLES = [
    NEURONS, ELIGIBILITIES, ENCODERS, SURROGATES, DISTRIBUTIONS, CONNECTIONS, POOLINGS, INITIALISERS, LOSSES,
    NEUROMODULATORS, LAYOUTS, EXPANSIONS, RULES, OPTIMIZERS, SCHEDULES, HOMEOSTASES, UPKEEPS, PROCESSES,
]  # fmt: skip


def test_tables_are_not_empty() -> None:
    assert all(TABLES)


@pytest.mark.parametrize(("table", "name"), [(t, n) for t in TABLES for n in t])
def test_every_entry_is_documented_and_reproducible(table: Any, name: str) -> None:
    doc = inspect.getdoc(table[name]) or ""
    assert len(doc.splitlines()[0]) > 10
    unsourced = (ELIGIBILITIES, ENCODERS, SURROGATES, DISTRIBUTIONS, LAYOUTS, OPTIMIZERS, SCHEDULES)
    if not any(table is other for other in unsourced):
        assert "Source:" in doc
    entry = made(table, name)
    assert entry == made(table, name)  # frozen constants compare by value
    if dataclasses.is_dataclass(entry):
        field = next(iter(dataclasses.fields(entry)), None)
        if field is not None:
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(entry, field.name, None)


@pytest.mark.parametrize("kind", ["models", "data", "rules", "neurons", "losses"])
def test_every_list_names_a_line_and_a_source(kind: str) -> None:
    rows = catalogue(kind)
    assert rows
    for row in rows:
        assert row.about and row.source, row
