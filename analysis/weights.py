"""Drift, norm and singular values of weights and projections over a run.

    drift(t) = ||W(t) - W(0)|| / ||W(0)||      (Frobenius)
    stable rank = ||W||_F^2 / ||W||_2^2        (between 1 and the rank)

W(0) is the first recorded snapshot, usually the one before the first batch. A weight is read as the matrix of what it
leads onto, by what arrives: kernels [out, in, k, k] as [out, in k k], local ones [out, height, width, in, k, k] as
[out height width, in k k], and listed synapses as the matrix in whose places they stand. Where only some synapses were
recorded, drift and norm are those of the recorded ones, and there are no singular values; nor are there of lists of
more than 4 million pairs of units.

Source: Rudelson, Vershynin 2007, J. ACM 54:21 (stable rank).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosbd import Run
from neurosbd.report import COLOURS, RecordAxis, label_axis, matrix_of_list, panels, quantity_field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SPECTRA = 10  # panels
MOST_MARKS = 60  # of snapshots on a line
MOST_PAIRS = 4_000_000  # of units that listed synapses join, whose matrix is made up
STILL = 1e-3  # drift of a weight that has hardly learned
EXPLODED = 10.0  # norm of the weights of a unit (root mean square), and its growth; kaiming_normal starts at 1.4


@dataclass(frozen=True)
class Result:
    """Every recorded weight and projection; NaN behind the snapshots or singular values that one has.

    axis: what `progress` counts: 'epoch', 'time, s' or 'trial'.
    progress: so much of it is behind each snapshot, 0 before the first batch.
    units: onto which the recorded synapses lead.
    plastic: whether it is a weight that may learn.
    singular: singular values of the first and the last snapshot, in descending order.
    """

    matrix: tuple[str, ...] = quantity_field("1")
    moment: tuple[str, ...] = quantity_field("1")
    axis: str = quantity_field("1")
    progress: np.ndarray = quantity_field("see axis", "matrix", "snapshot")
    drift: np.ndarray = quantity_field("1", "matrix", "snapshot")
    norm: np.ndarray = quantity_field("weight", "matrix", "snapshot")
    singular: np.ndarray = quantity_field("weight", "matrix", "moment", "rank")
    stable_rank: np.ndarray = quantity_field("1", "matrix", "moment")
    units: np.ndarray = quantity_field("1", "matrix")
    plastic: np.ndarray = quantity_field("1", "matrix")


def analyse(run: Run) -> Result:
    """Drift and spectra of every recorded `weight` and `projection`.

    Raises:
        NotRecorded: if there is neither.
    """
    signals = run.trace.need("weight", "projection")
    axis, shapes = RecordAxis.of(run), _matrix_shapes(run, signals)
    rank = max((min(shape) for shape in shapes), default=0)
    snapshots = max(len(s) for s in signals)
    progress, drift, norm = np.full((3, len(signals), snapshots), np.nan)
    singular, stable = np.full((len(signals), 2, rank), np.nan), np.full((len(signals), 2), np.nan)
    for i, signal in enumerate(signals):
        if not len(signal):
            continue
        n = len(signal)
        progress[i, :n] = axis.of_rows(signal)
        start = signal[0].astype(np.float64)
        for rows, values in signal.blocks():
            norm[i, rows] = np.linalg.norm(values.astype(np.float64), axis=1)
            away = np.linalg.norm(values - start, axis=1)
            drift[i, rows] = away / norm[i, 0] if norm[i, 0] > 0 else np.nan
        if signal.shape[-1] == np.prod(signal.size) and min(shapes[i]):
            for k, row in enumerate((0, n - 1)):
                values = np.linalg.svd(_matrix(signal, row, shapes[i]), compute_uv=False)
                singular[i, k, : len(values)] = values
                stable[i, k] = np.sum(values**2) / values[0] ** 2 if values[0] > 0 else np.nan
    names = tuple(s.where if s.what == "weight" else f"projection onto {s.where}" for s in signals)
    units = np.array([_reached(signal, columns) for signal, (_, columns) in zip(signals, shapes, strict=True)])
    learning = {c.name for c in run.definition.connection if c.plastic}
    plastic = np.array([s.what == "weight" and s.where in learning for s in signals])
    return Result(names, ("first", "last"), axis.label, progress, drift, norm, singular, stable, units, plastic)


def _matrix_shapes(run: Run, signals: list[Any]) -> list[tuple[int, int]]:
    """Rows and columns of each weight or projection [outputs, ...] as a matrix. Of listed synapses up to the last units
    that have one; (0, 0): too many."""
    network, shapes = run.definition.network(), []
    for signal in signals:
        if signal.listed:
            shape = int(signal.ends.post.max(initial=-1)) + 1, int(signal.ends.pre.max(initial=-1)) + 1
            shapes.append(shape if shape[0] * shape[1] <= MOST_PAIRS else (0, 0))
            continue
        post = (0,)
        if signal.what == "weight":
            connection = network.connections[signal.where]
            post = connection.geometry.axes(signal.size, network.populations[connection.pre].size).post
        rows = int(np.prod([signal.size[axis] for axis in post]))  # axes that say whose the weights are come first
        shapes.append((rows, int(np.prod(signal.size)) // rows))
    return shapes


def _matrix(signal: Any, row: int, shape: tuple[int, int]) -> np.ndarray:
    """A whole weight as a matrix, float64."""
    values = signal[row].astype(np.float64)
    if not signal.listed:
        return values.reshape(shape)
    return matrix_of_list(values, signal.ends.post, signal.ends.pre, shape)


def _reached(signal: Any, columns: int) -> int:
    """Units onto which the recorded synapses lead."""
    return len(np.unique(signal.ends.post if signal.listed else signal.items // columns))


def figure(result: Result) -> "Figure":
    """Drift and norm over the run, then the spectra of what was recorded whole."""
    ranks = np.isfinite(result.singular).sum(-1).max(-1)
    whole = np.flatnonzero(ranks > 1)[:MOST_SPECTRA]
    drawing, axes = panels(2 + len(whole), columns=3)
    lines: list[Any] = []
    marks = {"marker": "o" if result.progress.shape[1] <= MOST_MARKS else "", "ms": 3}
    for i in range(len(result.matrix)):
        style: dict[str, Any] = marks | {"color": COLOURS[i % len(COLOURS)], "ls": "-" if i < len(COLOURS) else "--"}
        lines += axes[0].plot(result.progress[i], result.drift[i], **style)
        axes[1].plot(result.progress[i], result.norm[i], **style)
    axes[0].set(ylabel="||W - W(0)|| / ||W(0)||", title="drift")
    axes[0].set_yscale("symlog", linthresh=STILL)
    axes[0].set_ylim(0, None)
    norms = result.norm[result.norm > 0]
    axes[1].set(ylabel="||W||, weight", title="norm")
    if len(norms) and norms.max() > 10 * norms.min():
        axes[1].set_yscale("log")
    else:
        axes[1].set_ylim(0, None)
    for ax in axes[:2]:
        label_axis(ax, result.axis)
    for ax, i in zip(axes[2:], whole, strict=True):
        for k, line in enumerate(("--", "-")):
            values = result.singular[i, k]
            label = f"{result.moment[k]}, stable rank {result.stable_rank[i, k]:.1f}"
            ax.plot(np.arange(1, len(values) + 1), values, line, color=COLOURS[i % len(COLOURS)], label=label)
        ax.set(xlabel="number of the singular value", ylabel="singular value, weight", title=result.matrix[i])
        ax.set(xlim=(0.5, ranks[i] + 0.5), ylim=(0, None))
        ax.locator_params("x", integer=True)
        ax.legend(fontsize=7, frameon=False)
    drawing.legend(lines, result.matrix, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return drawing


def caption(result: Result) -> str:
    """Final drift of every matrix, and how its stable rank changed."""
    parts = []
    for i, name in enumerate(result.matrix):
        known = result.drift[i][np.isfinite(result.drift[i])]
        drift = f"{known[-1]:.2g}" if len(known) else "unknown (it started at 0)"
        ranks = result.stable_rank[i]
        change = f", stable rank {ranks[0]:.1f} to {ranks[1]:.1f}" if np.isfinite(ranks).all() else ""
        parts.append(f"{name}: drift {drift}{change}")
    return (
        "Distance of every weight and projection from its start, relative to its norm there, and its singular values "
        f"before and after. {'; '.join(parts)}."
    )


def advice(result: Result) -> list[str]:
    """Weights that have not moved, exploded, or come close to rank 1."""
    found = []
    for i, name in enumerate(result.matrix):
        drift = result.drift[i][np.isfinite(result.drift[i])]
        norm = result.norm[i][np.isfinite(result.progress[i])]
        first, last = result.stable_rank[i]
        if not np.isfinite(norm).all():
            found.append(f"{name}: has values that are not finite; lower the learning rate or set training.clip_norm.")
        if len(drift) > 1 and drift[-1] < STILL and result.plastic[i]:
            found.append(f"{name}: has hardly moved (drift {drift[-1]:.1g}); if it should learn, raise its rate.")
        each = norm[-1:] / np.sqrt(max(1, result.units[i]))
        if len(norm) > 1 and each > EXPLODED and norm[-1] > EXPLODED * norm[0]:
            found.append(
                f"{name}: its norm grew {norm[-1] / norm[0]:.0f} times, to {each[0]:.0f} per unit; lower the learning "
                f"rate or add weight_decay."
            )
        if last < 1.5 and first > 3 * last:
            found.append(f"{name}: came close to rank 1 (stable rank {first:.1f} to {last:.1f}).")
    return found
