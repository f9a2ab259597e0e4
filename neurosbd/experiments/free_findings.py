"""What a free run comes to: rates, activities and weights."""

from collections.abc import Sequence

import numpy as np

from neurosbd.files.parsing import JsonTable
from neurosbd.stimuli import Items, Stimulator
from neurosbd.stimuli.dataset import Place
from neurosbd.tasks import Findings, Panel

_UNITS = {"rate": "rate, Hz", "activity": "mean activity", "weight": "mean weight"}


def findings(metrics: Sequence[JsonTable]) -> Findings:
    """Mean rates and activities over all reports, weights at the end; all of them over time."""
    return Findings(_measures(metrics), _panels(metrics) if "time" in metrics[-1] else ())


def _keys(metrics: Sequence[JsonTable], what: str) -> list[str]:
    return [key for key in metrics[-1] if key.endswith(f".{what}")]


def _measures(metrics: Sequence[JsonTable]) -> dict[str, float]:
    """Mean rates and activities over all reports, weights at the end."""
    found = {}
    for key in (*_keys(metrics, "rate"), *_keys(metrics, "activity")):
        found[key] = float(np.mean([line[key] for line in metrics]))
    return found | {key: metrics[-1][key] for key in _keys(metrics, "weight")}


def _panels(metrics: Sequence[JsonTable]) -> tuple[Panel, ...]:
    """What the reports say, over time."""
    time = np.array([line["time"] for line in metrics])
    panels = []
    for what, label in _UNITS.items():
        lines = {
            key.removesuffix(f".{what}"): (time, np.array([line[key] for line in metrics], float))
            for key in _keys(metrics, what)
        }
        if lines:
            panels.append(Panel(label.partition(",")[0], "time, s", label, lines))
    return tuple(panels)


def labels_shown(stimulator: Stimulator, steps: int) -> Panel | None:
    """The labels of the items of data sets, if any were shown, over the time of a run of so many steps."""
    lines = {}
    for given, state, span in zip(stimulator.stimulations, stimulator.states, stimulator.spans, strict=True):
        if isinstance(given.stimulus, Items) and isinstance(state, Place):
            low, high = span.within(0, steps)
            times, labels = given.stimulus.labels(state, high - low, stimulator.dt)
            lines[f"items at {given.population}"] = times + given.start, labels.astype(float)
    return Panel("items", "time, s", "label", lines, frozenset(lines)) if lines else None
