"""What the first layer looks for: the weights from the input as pictures, and how training changed them.

A unit of a dense connection shows its weights over the input; a kernel shows itself, and a locally connected map has as
many as units. Three input channels are red, green and blue, drawn as 0.5 + w / (2 max |w|); any other number of
channels is drawn side by side, on a diverging scale that is symmetric about 0. All pictures share the scale max |w|.
Shown are the units of the largest norm. Weights before training are the recorded ones if the trace has them all,
otherwise they are drawn again from the seed of the run.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosbd import Run, UsageError
from neurosbd.report import matrix_of_list, panels, quantity_field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 64  # pictures
MOST_CHANNELS = 4  # side by side


@dataclass(frozen=True)
class Result:
    """Fields of the units (or kernels) of the largest norm of one connection from the input.

    unit: their numbers in the layer.
    change: final minus initial weight.
    moved: ||final - initial|| / ||initial|| of each.
    plastic: whether they may learn.
    """

    connection: str = quantity_field("1")
    units: int = quantity_field("1")
    unit: np.ndarray = quantity_field("1", "unit")
    field: np.ndarray = quantity_field("weight", "unit", "channel", "y", "x")
    change: np.ndarray = quantity_field("weight", "unit", "channel", "y", "x")
    moved: np.ndarray = quantity_field("1", "unit")
    plastic: bool = quantity_field("1")


def analyse(run: Run) -> Result:
    """Fields of the first connection that leaves the input.

    Raises:
        UsageError: if nothing leaves the input, or the run has no checkpoint yet.
    """
    network = run.network()
    connection = next((c for c in network.connections.values() if c.pre == "input"), None)
    if connection is None:
        raise UsageError(f"{run.path}: no connection leaves the input, so there are no receptive fields")
    size = network.populations["input"].size
    pool = getattr(connection.geometry, "pool", None)
    arriving = pool.size(size) if pool is not None else size
    final = network.weights[connection.name].detach().double().numpy()
    first = _initial(run, connection.name, final.shape)
    axes = connection.geometry.axes(final.shape, size)
    owners = len(axes.post)  # axes that say whose the weights are come first
    if axes.pairs is not None:
        post, pre = (units.numpy() for units in axes.pairs)
        final, first = (matrix_of_list(weight, post, pre, axes.units) for weight in (final, first))
    final, first = (w.reshape(-1, *w.shape[owners:]) for w in (final, first))
    chosen = np.argsort(-np.linalg.norm(final.reshape(len(final), -1), axis=1), kind="stable")[:MOST]
    after, before = (w[chosen] if axes.kernel else _pictures(w[chosen], arriving) for w in (final, first))
    moved = _moved(final[chosen], first[chosen])
    return Result(connection.name, len(final), chosen, after, after - before, moved, connection.plastic)


def _initial(run: Run, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weight before the first batch."""
    try:
        signal = run.trace[f"{name}.weight"]
    except UsageError:
        return run.definition.network().weights[name].detach().double().numpy()
    if signal.shape[-1] != np.prod(shape) or not len(signal) or signal.batch[0] >= 0:
        return run.definition.network().weights[name].detach().double().numpy()
    return signal[0].reshape(shape).astype(np.float64)


def _moved(final: np.ndarray, first: np.ndarray) -> np.ndarray:
    away, start = (np.linalg.norm(w.reshape(len(w), -1), axis=1) for w in (final - first, first))
    return np.divide(away, start, out=np.full(len(away), np.nan), where=start > 0)


def _pictures(weight: np.ndarray, arriving: tuple[int, ...]) -> np.ndarray:
    """Weights of all that arrives, [unit, arriving], in its shape: [unit, channel, y, x]."""
    if weight.shape[1] != np.prod(arriving):  # of vectors, whose components share a weight
        arriving = arriving[:1]
    return weight.reshape(len(weight), *(1,) * (3 - len(arriving)), *arriving)


def figure(result: Result) -> "Figure":
    """Final fields left, what training changed right."""
    drawing, axes = panels(2, width=4.4, height=4.4)
    titles = (f"{result.connection}, after training", "change by training")
    for ax, fields, title in zip(axes, (result.field, result.change), titles, strict=True):
        scale = float(np.abs(fields).max()) or 1.0
        _, channels, height, _ = fields.shape
        single = height == 1  # nothing but a row of inputs: a matrix says more than pictures
        mosaic = fields[:, 0, 0] if single else _mosaic(fields, scale)
        image = ax.imshow(mosaic, cmap="RdBu_r", vmin=-scale, vmax=scale, aspect="auto" if single else "equal")
        ax.set_title(title)
        if single:
            ax.set(xlabel="input", ylabel="unit, by norm")
        else:
            ax.set_axis_off()
        if single or channels != 3:
            bar = drawing.colorbar(image, ax=ax, orientation="horizontal", shrink=0.7, aspect=30, pad=0.02)
            bar.set_label("weight", fontsize=9)
            bar.ax.tick_params(labelsize=8)
        else:
            ax.text(0.5, -0.03, f"full colour: weight {scale:.2g}", transform=ax.transAxes, ha="center", fontsize=8)
    return drawing


def _mosaic(fields: np.ndarray, scale: float) -> Any:
    """All pictures on one, with gaps: [y, x], or [y, x, 3] for coloured ones."""
    count, channels, height, width = fields.shape
    if channels == 3:
        tiles = np.moveaxis(0.5 + fields / (2 * scale), 1, -1)
    else:
        # A gap of one pixel between the channels of a unit, and of two between units.
        shown = fields[:, :MOST_CHANNELS]
        tiles = np.full((count, height, shown.shape[1] * (width + 1) - 1), np.nan)
        for c in range(shown.shape[1]):
            tiles[:, :, c * (width + 1) : c * (width + 1) + width] = shown[:, c]
    columns = max(1, round(np.sqrt(count * tiles.shape[1] / tiles.shape[2])))
    gap = 2 if channels > 1 and channels != 3 else 1
    rows = -(-count // columns)
    shape = (rows * (tiles.shape[1] + gap) - gap, columns * (tiles.shape[2] + gap) - gap, *tiles.shape[3:])
    whole = np.full(shape, 1.0 if channels == 3 else np.nan)
    for k, tile in enumerate(tiles):
        y, x = (k // columns) * (tile.shape[0] + gap), (k % columns) * (tile.shape[1] + gap)
        whole[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return whole


def caption(result: Result) -> str:
    """How many fields of how many are shown, and how far they moved."""
    largest = float(np.abs(result.field).max())
    moved = result.moved[np.isfinite(result.moved)]
    far = f"{np.median(moved):.2g} of their initial norm in the median" if len(moved) else "from 0"
    channels = result.field.shape[1]
    hidden = f"; only the first {MOST_CHANNELS} of {channels} input channels" if channels > MOST_CHANNELS else ""
    return (
        f"Weights of the {len(result.unit)} of {result.units} units of {result.connection} with the largest norm, in "
        f"falling order, on one scale up to {largest:.2g}{hidden}. Training moved them by {far}."
    )


def advice(result: Result) -> list[str]:
    """A first layer that training has left as it was."""
    moved = result.moved[np.isfinite(result.moved)]
    if result.plastic and len(moved) and np.median(moved) < 0.01:
        return [
            f"{result.connection}: its fields moved by only {np.median(moved):.1g} of their initial norm; if the layer "
            f"should learn, raise its learning rate (training.rates) or train longer."
        ]
    return []
