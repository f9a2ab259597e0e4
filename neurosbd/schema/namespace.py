"""Rooms that are tables as well: `neurosbd.rules` is a package, and `neurosbd.rules["sbd"]` the maker of a rule."""

import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from neurosbd.errors import nearest

Maker = Callable[..., Any]


class TableModule(ModuleType, Mapping[str, Maker]):
    """A module that can be read like the table at its heart, name -> maker; it cannot be written that way."""

    _table: Mapping[str, Maker]

    def __getitem__(self, name: str) -> Maker:
        if name not in self._table:
            raise KeyError(f"{name}{nearest(name, self._table)}")
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    # Two modules are equal if they are the same one; importers and debuggers keep them in sets.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def is_table(module: str, table: Mapping[str, Maker]) -> None:
    """Let a module be read like a table.

    Args:
        module: its `__name__`; it is being imported.
        table: looked at whenever it is asked for a name, so that what is added to it later is found.

    >>> from neurosbd import encoders
    >>> encoders["poisson"]().__class__.__name__, sorted(encoders)
    ('Poisson', ['constant', 'delta', 'latency', 'poisson'])
    """
    here = sys.modules[module]
    here.__class__ = TableModule
    vars(here)["_table"] = table
