"""How Hebbian every layer's update looks, over the training.

For the descent d = -gradient that the rule handed to the optimizer (before weight decay, momentum and learning rate)
and Hebb's change H = sum over batch and time of drive x pre, for the synapses of a connection:

    cosine = <d, H> / (|d| |H|)

Positive is Hebbian, negative anti-Hebbian. Caution: with weight decay every rule looks Hebbian near convergence, for
stationarity d = decay W gives <d, H> = decay E|drive|^2 > 0 whatever the loss; noise of small batches pulls the other
way. So a positive cosine does not identify a Hebbian mechanism, and decay, batch size and stage belong beside it.
Where |d| has vanished the cosine is undefined and left out.

Source: Koplow, Poggio, Ziyin 2025, arXiv 2505.18069. Differs: measured on the batches of the training, in the course
of learning; they use a large batch at rest.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosbd import Run
from neurosbd.report import COLOURS, batches_learned, panels, quantity_field, smoothed, start_and_end
from neurosbd.tracefiles import NotRecorded

FLOOR = 1e-6  # of the largest norm of a connection; below, a direction is rounding


@dataclass(frozen=True)
class Result:
    """Batches are counted from the start of the training; cosine is NaN where the descent vanished."""

    connection: tuple[str, ...] = quantity_field("1")
    batch: np.ndarray = quantity_field("1", "batch")
    epoch: np.ndarray = quantity_field("1", "batch")  # from 1
    cosine: np.ndarray = quantity_field("1", "connection", "batch")
    norm: np.ndarray = quantity_field("d loss / d weight", "connection", "batch")  # of the descent
    weight_decay: float = quantity_field("1")
    batch_size: int = quantity_field("1")
    epochs: int = quantity_field("1")  # of the whole training


def analyse(run: Run) -> Result:
    """Gather the Hebbian alignment of all connections.

    Raises:
        NotRecorded: if no `hebbian` was recorded, or too rarely for so short a training.
    """
    signals = [signal for signal in run.trace.need("hebbian") if len(signal)]
    if not signals:
        spec = "*.hebbian[every=1 batch]"
        raise NotRecorded(
            f'{run.trace.path}: no batch was measured so far; run on, or again with --record "{spec}"', spec
        )
    training = run.definition.training
    batch = np.unique(np.concatenate([batches_learned(signal) for signal in signals]))
    epoch = np.zeros(len(batch), int)
    cosine, norm = np.full((2, len(signals), len(batch)), np.nan)
    for number, signal in enumerate(signals):
        at = np.searchsorted(batch, batches_learned(signal))
        cosine[number, at], norm[number, at] = signal[:].astype(float).T
        epoch[at] = signal.epoch
    floor = FLOOR * np.nanmax(norm, axis=1, initial=0, keepdims=True)
    return Result(
        connection=tuple(signal.where for signal in signals),
        batch=batch,
        epoch=epoch,
        cosine=np.where(norm > floor, cosine, np.nan),
        norm=norm,
        weight_decay=float(getattr(training.optimizer, "weight_decay", 0.0)),
        batch_size=training.batch_size,
        epochs=training.epochs,
    )


def figure(result: Result) -> Any:
    """Cosine and norm against the batch; thin as measured, thick the median of neighbours."""
    drawn, (cosine, norm) = panels(2, width=4.2, height=3.0)
    for number, connection in enumerate(result.connection):
        colour = COLOURS[number % len(COLOURS)]
        for ax, values in ((cosine, result.cosine), (norm, result.norm)):
            there = np.isfinite(values[number]) & (values[number] > 0 if ax is norm else True)
            batch, value = result.batch[there], values[number, there]
            ax.plot(batch, value, color=colour, linewidth=0.6, alpha=0.35)
            ax.plot(*smoothed(batch, value), ".-", markersize=4, color=colour, linewidth=1.6, label=connection)
    cosine.axhline(0, color="0.5", linestyle="--", linewidth=1)
    widest = max(0.1, 1.1 * np.nanmax(np.abs(result.cosine), initial=0))
    cosine.set(title="Descent against Hebb's change", xlabel="batch", ylabel="cosine", ylim=(-widest, widest))
    drawn.legend(*cosine.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    norm.set(title="Length of the descent", xlabel="batch", ylabel="|descent| (d loss / d weight)", yscale="log")
    norm.tick_params(which="minor", labelsize=7)
    return drawn


def caption(result: Result) -> str:
    """Median cosine at both ends, and what has to be known to read it."""
    moves = [
        f"{connection} {start_and_end(values)[0]:+.2f} to {start_and_end(values)[1]:+.2f}"
        for connection, values in zip(result.connection, result.cosine, strict=True)
    ]
    return (
        f"Cosine of the descent with drive x pre (above 0 Hebbian, below anti-Hebbian), median of the first and of the "
        f"last quarter: {', '.join(moves)}; weight decay {result.weight_decay:g}, batch size {result.batch_size}, "
        f"epochs {result.epoch[0]} to {result.epoch[-1]} of {result.epochs}. A positive value does not identify a "
        f"Hebbian mechanism: near convergence weight decay makes every rule look Hebbian, and noise of small batches "
        f"the opposite."
    )
