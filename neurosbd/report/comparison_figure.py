"""The figure of a comparison: every seed, mean and interval of the last epoch, and the way there."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from neurosbd.measures import MEASURES, title
from neurosbd.report.grouping import Group
from neurosbd.report.panels import COLOURS, panels
from neurosbd.report.run_summary import dynamics
from neurosbd.report.statistics import Estimate
from neurosbd.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What runs are judged by, as reports name it: every measure of the test, and its loss; its key in the metrics.
KEYS = {f"test {title(name)}": f"test_{name}" for name in MEASURES} | {"test loss": "test_loss"}
_PERCENT = {f"test {title(name)}" for name in MEASURES if MEASURES[name].percent}


def is_percent(quantity: str) -> bool:
    """Whether a quantity is a share, shown as a percentage."""
    return quantity in _PERCENT


_DASHES = ("-", "--", ":", "-.")
_MOST_LABEL = 60  # characters of a legend entry

Drawn = tuple[str, Group, Mapping[str, Estimate]]


def figure(rows: Sequence[Drawn], quantity: str) -> "Figure":
    """What runs are judged by at the last epoch per group, and that and the loss over the epochs.

    Args:
        rows: groups with what is known of them.
        quantity: of the last epoch; of runs that were not trained (protocols) a measure of theirs.
    """
    curves = [name for name, key in KEYS.items() if any(_curves(group, key) for _, group, _ in rows)]
    drawn, axes = panels(1 + len(curves), width=4.0, height=3.0 + 0.12 * max(0, len(rows) - 6))
    _points(axes[0], rows, quantity)
    for ax, quantity in zip(axes[1:], curves, strict=True):
        percent = is_percent(quantity)
        for place, (name, group, _) in enumerate(rows):
            _band(ax, _curves(group, KEYS[quantity]), 100 if percent else 1, name, place)
        ax.set(xlabel="epoch", ylabel=quantity + (" (%)" if percent else ""), title="mean and std over seeds")
        ax.locator_params(axis="x", integer=True)
    handles, labels = axes[-1].get_legend_handles_labels() if curves else ([], [])
    if handles:
        columns = 1 if max(map(len, labels)) > 40 else min(4, len(labels))
        drawn.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    return drawn


class Style(TypedDict):
    """How the curve of a group is drawn, as matplotlib calls it."""

    color: str
    linestyle: str | tuple[int, tuple[int, ...]]


def style(place: int) -> Style:
    """Colour and dashes of the group at a place: no two alike among 28."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": _DASHES[place // len(COLOURS) % len(_DASHES)]}


def _points(ax: "Axes", rows: Sequence[Drawn], quantity: str) -> None:
    """Every seed as a dot, the mean as a bar with its interval."""
    percent = 100 if is_percent(quantity) else 1
    key = KEYS.get(quantity, quantity.replace(" ", "_"))
    for place, (_, group, estimates) in enumerate(rows):
        colour = style(place)["color"]
        values = [percent * value for run in group.finished if (value := _last(run, quantity, key)) is not None]
        ax.plot(values, [place] * len(values), "o", color=colour, markersize=5, alpha=0.55, markeredgewidth=0)
        found = estimates.get(quantity)
        if found is None or found.mean is None:
            continue
        ax.plot([percent * found.mean], [place], "|", color=colour, markersize=18, markeredgewidth=2)
        if found.low is not None and found.high is not None:
            ax.plot([percent * found.low, percent * found.high], [place, place], "-", color=colour, linewidth=2)
    ax.set_yticks(range(len(rows)), [_short(name, 26) for name, _, _ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    title = "last epoch: seeds, mean" + (", 95 % interval" if _any_interval(rows, quantity) else "")
    ax.set(xlabel=_plain(quantity) + (" (%)" if percent == 100 else ""), title=title)


def _any_interval(rows: Sequence[Drawn], quantity: str) -> bool:
    found = [estimates.get(quantity) for _, _, estimates in rows]
    return any(one is not None and one.low is not None for one in found)


def _last(run: Run, quantity: str, key: str) -> float | None:
    last = run.metrics[-1] if run.metrics else {}
    others = (run.result.get("measures") or {}) | dynamics(last)
    value = last.get(key, others.get(key, others.get(quantity)))
    return value if isinstance(value, int | float) else None


def _curves(group: Group, key: str) -> list[dict[int, float]]:
    """Value by epoch, of every finished run."""
    made = [
        {line["epoch"]: line[key] for line in run.metrics if isinstance(line.get(key), int | float) and "epoch" in line}
        for run in group.finished
    ]
    return [curve for curve in made if curve]


def _band(ax: "Axes", curves: list[dict[int, float]], factor: float, name: str, place: int) -> None:
    """Mean over the seeds at every epoch that all of them have, with a band of one standard deviation."""
    if not curves:
        return
    epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
    values = factor * np.array([[curve[epoch] for epoch in epochs] for curve in curves], float)
    mean = values.mean(0)
    look = style(place)
    marker = "." if len(epochs) < 3 else None
    ax.plot(epochs, mean, linewidth=1.6, label=f"{_short(name)} (n = {len(curves)})", marker=marker, **look)
    if len(curves) > 1:
        std = values.std(0, ddof=1)
        ax.fill_between(epochs, mean - std, mean + std, color=look["color"], alpha=0.18, linewidth=0)


def _short(name: str, most: int = _MOST_LABEL) -> str:
    return _plain(name if len(name) <= most else name[: most - 1] + "…")


def _plain(name: str) -> str:
    """Without meaning for matplotlib, which takes what stands between dollars for mathematics."""
    return name.replace("$", r"\$")
