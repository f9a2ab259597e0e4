"""A confusion matrix as a figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_NAMED = 40  # classes whose names are readable beside each other
_MOST_COUNTED = 20  # classes whose counts are readable in their cells


def confusion_figure(counts: np.ndarray, names: Sequence[str]) -> "Figure":
    """Which share of the examples of a class (row) is taken for which class (column).

    Args:
        counts: int64 [classes, classes].
        names: of the classes.
    Returns:
        A matplotlib Figure.
    """
    from matplotlib.figure import Figure

    classes = len(names)
    side = min(12.0, 3.0 + 0.35 * min(classes, _MOST_NAMED))
    figure = Figure(figsize=(side, 0.9 * side), layout="constrained")
    axes = figure.subplots()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if classes <= _MOST_NAMED:
        axes.set_xticks(range(classes), names, rotation=90)
        axes.set_yticks(range(classes), names)
    if classes <= _MOST_COUNTED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=8, color=colour)
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(picture, label="share of the true class", shrink=0.8)
    return figure
