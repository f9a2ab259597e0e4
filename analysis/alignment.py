"""How far every layer's update points along the true gradient, over the training.

For the gradient g that the rule handed to the optimizer and the gradient b of the loss by backprop, of the same batch
at the same weights, all synapses of a connection taken as one vector (biases left out):

    cosine = <g, b> / (|g| |b|)      angle = arccos(cosine)      ratio = |g| / |b|

The probe that computes b on the side changes nothing in the run. Random directions give 90 degrees, a layer that
learns by its own true gradient (the readout under most rules, every layer under 'bp') 0 degrees and ratio 1.

Source: Lillicrap et al. 2016, Nature Communications 7 (angles between updates); Nokland 2016, NeurIPS (DFA).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosbd import Run
from neurosbd.report import COLOURS, batches_learned, panels, quantity_field, smoothed, start_and_end
from neurosbd.tracefiles import NotRecorded

UNALIGNED = 85.0  # degrees; at 90 an update does not change the loss
UNEQUAL = 100.0  # ratio of norms between two layers


@dataclass(frozen=True)
class Result:
    """Batches are counted from the start of the training; NaN where one of the two gradients vanished."""

    connection: tuple[str, ...] = quantity_field("1")
    batch: np.ndarray = quantity_field("1", "batch")
    epoch: np.ndarray = quantity_field("1", "batch")  # from 1
    cosine: np.ndarray = quantity_field("1", "connection", "batch")
    angle: np.ndarray = quantity_field("degree", "connection", "batch")
    ratio: np.ndarray = quantity_field("1", "connection", "batch")
    adaptive: bool = quantity_field("1")  # whether the optimizer divides the norm out again


def analyse(run: Run) -> Result:
    """Gather the alignment of all connections.

    Raises:
        NotRecorded: if no `alignment` was recorded, or too rarely for so short a training.
    """
    signals = [signal for signal in run.trace.need("alignment") if len(signal)]
    if not signals:
        spec = "*.alignment[every=1 batch]"
        raise NotRecorded(
            f'{run.trace.path}: no batch was measured so far; run on, or again with --record "{spec}"', spec
        )
    batch = np.unique(np.concatenate([batches_learned(signal) for signal in signals]))
    epoch = np.zeros(len(batch), int)
    cosine, ratio = np.full((2, len(signals), len(batch)), np.nan)
    for number, signal in enumerate(signals):
        at = np.searchsorted(batch, batches_learned(signal))
        cosine[number, at], ratio[number, at] = signal[:].astype(float).T
        epoch[at] = signal.epoch
    return Result(
        connection=tuple(signal.where for signal in signals),
        batch=batch,
        epoch=epoch,
        cosine=cosine,
        angle=np.degrees(np.arccos(np.clip(cosine, -1, 1))),
        ratio=ratio,
        adaptive=run.definition.training.optimizer.kind != "sgd",
    )


def figure(result: Result) -> Any:
    """Angle, cosine and norm ratio against the batch; thin as measured, thick the median of neighbours."""
    drawn, (angle, cosine, ratio) = panels(3)
    for number, connection in enumerate(result.connection):
        colour = COLOURS[number % len(COLOURS)]
        for ax, values in zip((angle, cosine, ratio), (result.angle, result.cosine, result.ratio), strict=True):
            there = np.isfinite(values[number]) & (values[number] > 0 if ax is ratio else True)
            batch, value = result.batch[there], values[number, there]
            ax.plot(batch, value, color=colour, linewidth=0.6, alpha=0.35)
            ax.plot(*smoothed(batch, value), ".-", markersize=4, color=colour, linewidth=1.6, label=connection)
    angle.axhline(90, color="0.5", linestyle="--", linewidth=1)
    cosine.axhline(0, color="0.5", linestyle="--", linewidth=1)
    ratio.axhline(1, color="0.5", linestyle="--", linewidth=1)
    worst = float(np.nanmax(result.angle, initial=90))
    angle.set(title="Angle to the true gradient", ylabel="angle (degrees)", ylim=(-4, max(95, worst + 5)))
    angle.set_yticks(range(0, int(worst) + 6, 30))
    cosine.set(
        title="Cosine with it", ylabel="cosine", ylim=(min(-0.1, 1.1 * np.nanmin(result.cosine, initial=0)), 1.05)
    )
    ratio.set(title="Length, compared to it", ylabel="|update| / |true gradient|", yscale="log")
    ratio.tick_params(which="minor", labelsize=7)
    for ax in (angle, cosine, ratio):
        ax.set_xlabel("batch")
    drawn.legend(*cosine.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return drawn


def caption(result: Result) -> str:
    """Median angle of every connection at both ends of the training."""
    moves = []
    for connection, angle, ratio in zip(result.connection, result.angle, result.ratio, strict=True):
        start, end = start_and_end(angle)
        moves.append(f"{connection} {start:.0f} to {end:.0f} degrees (length {start_and_end(ratio)[1]:.2g} times)")
    return (
        f"Angle between what every connection was told to change and the gradient of backprop on the same batch, "
        f"median of the first and of the last quarter of {result.batch[-1]:,} batches: {', '.join(moves)}. At 90 "
        f"degrees an update does not change the loss, at 0 it is steepest descent."
    )


def advice(result: Result) -> list[str]:
    """Layers whose update does not descend, and layers that move at very different lengths."""
    found = [
        _unaligned(name, start_and_end(angle)[1]) for name, angle in zip(result.connection, result.angle, strict=True)
    ]
    lengths = {name: start_and_end(ratio)[1] for name, ratio in zip(result.connection, result.ratio, strict=True)}
    lengths = {name: length for name, length in lengths.items() if np.isfinite(length) and length > 0}
    if lengths and not result.adaptive:
        long, short = (pick(lengths, key=lambda name: lengths[name]) for pick in (max, min))
        if lengths[long] > UNEQUAL * lengths[short]:
            found.append(
                f"against the true gradient the update of '{long}' is {lengths[long] / lengths[short]:.0f} times "
                f"longer than that of '{short}', and sgd takes it as it is; set training.rates of their populations "
                f"apart, or use adam"
            )
    return [text for text in found if text]


def _unaligned(connection: str, angle: float) -> str | None:
    if not angle > UNALIGNED:
        return None
    way = "against" if angle > 180 - UNALIGNED else "across"
    return (
        f"connection '{connection}': its update points {way} the true gradient ({angle:.0f} degrees in the last "
        f"quarter), so it hardly lowers the loss; try a faster output layer (training.rates), rule = 'sbd' in place "
        f"of a fixed projection, or a lower rate for this layer so that the later ones can align first"
    )
