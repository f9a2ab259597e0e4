"""Every entry of every table is documented and a value; a new table goes into `neurosbd.tables.TABLES`."""

import dataclasses
from typing import Any

import pytest

from neurosbd.cli.catalogue import catalogue
from neurosbd.tables import TABLES
from tests.contracts.tables import made

UNSOURCED = {"activations"}  # a line each
VALUES = {kind: table for kind, table in TABLES.items() if kind not in ("activations", "recipes", "measures")}


def test_tables_are_not_empty() -> None:
    assert all(TABLES.values())


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in VALUES.items() for name in table])
def test_every_entry_is_reproducible(kind: str, name: str) -> None:
    table: Any = TABLES[kind]
    entry = made(table, name)
    assert entry == made(table, name)  # frozen constants compare by value
    if dataclasses.is_dataclass(entry):
        field = next(iter(dataclasses.fields(entry)), None)
        if field is not None:
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(entry, field.name, None)


@pytest.mark.parametrize("kind", ["models", "data", *TABLES])
def test_every_list_names_a_line_and_a_source(kind: str) -> None:
    rows = catalogue(kind)
    assert rows
    for row in rows:
        assert len(row.about) > 7 and (row.source or kind in UNSOURCED), row
