"""How active populations were and by how much weights changed, epoch by epoch, where nothing judges what is learned.

    rate        spikes per second of a unit, over the test examples; of a rate population mean |activity|
    change      mean over the synapses of a connection of |weight after the epoch - weight before it|

Everything comes from metrics.jsonl, so that runs without a trace have it too. A training that settles changes less and
less; one whose changes stay as they are goes on as long as it is let.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosbd import Run, UsageError
from neurosbd.report import COLOURS, panels, quantity_field

RATE, ACTIVITY, CHANGE = ".rate", ".activity", ".weight_change"


@dataclass(frozen=True)
class Result:
    """Values per epoch, counted from 1; NaN where there is none."""

    spiking: tuple[str, ...]
    graded: tuple[str, ...]
    connection: tuple[str, ...]
    epoch: np.ndarray = quantity_field("1", "epoch")
    rate: np.ndarray = quantity_field("Hz", "spiking", "epoch")
    activity: np.ndarray = quantity_field("1", "graded", "epoch")  # mean |activity|
    change: np.ndarray = quantity_field("unit of the weight", "connection", "epoch")


def analyse(run: Run) -> Result:
    """The lines of a training that nothing judges as arrays.

    Raises:
        UsageError: of a run that is judged, or has no line yet.
    """
    if not any(key.endswith(CHANGE) for line in run.metrics for key in line):
        raise UsageError("for trainings that nothing judges; weights[every=1 epochs] shows how those of others changed")
    names = {what: _named(run, what) for what in (RATE, ACTIVITY, CHANGE)}
    return Result(
        spiking=names[RATE],
        graded=names[ACTIVITY],
        connection=names[CHANGE],
        epoch=np.array([line["epoch"] for line in run.metrics], float),
        rate=_columns(run, names[RATE], RATE),
        activity=_columns(run, names[ACTIVITY], ACTIVITY),
        change=_columns(run, names[CHANGE], CHANGE),
    )


def _named(run: Run, what: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key.removesuffix(what) for line in run.metrics for key in line if key.endswith(what)))


def _columns(run: Run, names: tuple[str, ...], what: str) -> np.ndarray:
    values = [[line.get(f"{name}{what}") for line in run.metrics] for name in names]
    return np.array([[np.nan if v is None else v for v in row] for row in values], float).reshape(
        len(names), len(run.metrics)
    )


def figure(result: Result) -> Any:
    """A panel for rates, one for activities, one for changes, each if there are any."""
    blocks = [
        ("Rates", "spikes / s", result.spiking, result.rate),
        ("Activities", "mean |activity|", result.graded, result.activity),
        ("Changes of weights in an epoch", "mean |change|", result.connection, result.change),
    ]
    there = [block for block in blocks if block[2]]
    drawn, axes = panels(len(there))
    for ax, (title, label, names, values) in zip(axes, there, strict=True):
        for number, (name, row) in enumerate(zip(names, values, strict=True)):
            ax.plot(result.epoch, row, ".-", markersize=5, color=COLOURS[number % len(COLOURS)], label=name)
        ax.set(title=title, xlabel="epoch", ylabel=label, ylim=(0, None))
        ax.locator_params(axis="x", integer=True)
        ax.legend(frameon=False, fontsize=8)
    return drawn


def caption(result: Result) -> str:
    """Changes of the first and the last epoch, and rates at the end."""
    changes = ", ".join(
        f"those of {name} by {row[-1]:.3g}" + (f" (at first {row[0]:.3g})" if len(row) > 1 else "")
        for name, row in zip(result.connection, result.change, strict=True)
    )
    rates = ", ".join(f"{name} {row[-1]:.3g} Hz" for name, row in zip(result.spiking, result.rate, strict=True))
    return f"In the last epoch weights changed on average: {changes}." + (f" Rates after it: {rates}." if rates else "")


def advice(result: Result) -> list[str]:
    """Connections that are plastic and did not change."""
    return [
        f"the weights of '{name}' are plastic and did not change at all; see to the spikes on both sides of it, and to "
        f"the bounds of its weights"
        for name, row in zip(result.connection, result.change, strict=True)
        if not row.any()
    ]
