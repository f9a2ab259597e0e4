"""The look of all figures: colours that everyone can tell apart, units on every axis, no chart junk."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from neurosbd.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe, Ito 2008, without the yellow that vanishes on paper: told apart with any colour vision, and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def panels(count: int, columns: int = 3, width: float = 3.6, height: float = 2.7) -> "tuple[Figure, list[Axes]]":
    """A figure with `count` panels in rows of at most `columns`, in the style of the house.

    Args:
        count: of panels, >= 1.
        columns: panels side by side at most.
        width: of a panel, inches.
        height: of a panel, inches.
    Returns:
        The figure (drawn without any display) and its axes, in reading order.
    Raises:
        UsageError: if matplotlib is not installed.
    """
    try:
        from cycler import cycler
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("figures need matplotlib: pip install 'neurosbd[report]'") from None
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    grid: np.ndarray = figure.subplots(rows, columns, squeeze=False)
    axes = [ax for row in grid for ax in row]
    for ax in axes[count:]:
        ax.remove()
    for ax in axes[:count]:
        ax.set_prop_cycle(cycler(color=COLOURS))
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
        ax.set_title = partial(ax.set_title, fontsize=9)  # each title starts from the size in rcParams again
        ax.xaxis.label.set_fontsize(9)
        ax.yaxis.label.set_fontsize(9)
    return figure, axes[:count]
