"""What an experiment found: numbers by name, and curves to draw."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Panel:
    """Curves that share their axes.

    lines: label -> (x, y); points: labels drawn as markers.
    """

    title: str
    xlabel: str
    ylabel: str
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]]
    points: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Findings:
    """measures: numbers by name; panels: pictures."""

    measures: Mapping[str, float]
    panels: tuple[Panel, ...] = field(default=())
