"""Along what the records of a run are counted: epochs of a training, the time of a free run, trials of a protocol.

Within an epoch, and between two reports of a free run, records are taken together: they are a stage of the run.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from neurosbd.runs.run import Run
from neurosbd.tracefiles.signal import Signal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AxisLabel = Literal["epoch", "time, s", "trial"]


@dataclass(frozen=True)
class RecordAxis:
    """The axis of records.

    label: of the axis of a figure.
    stages: number of the stage of each row, [row]; 0 is before the first trial.
    of_rows: where each row of a weight is along the axis, [row].
    ends_of_rows: how far the run has come with each row of any signal, in whole epochs or trials, or s, [row].
    """

    label: AxisLabel
    stages: Callable[[Signal], np.ndarray]
    of_rows: Callable[[Signal], np.ndarray]
    ends_of_rows: Callable[[Signal], np.ndarray]

    @classmethod
    def of(cls, run: Run) -> "RecordAxis":
        """That of the kind of run."""
        definition = run.definition
        return _TIME if definition.simulation else _TRIALS if definition.protocol else _EPOCHS

    def ends(
        self, groups: np.ndarray, group_of: Callable[[Signal], np.ndarray], signals: Iterable[Signal]
    ) -> np.ndarray:
        """Where groups of rows end along the axis, [group].

        Args:
            groups: their numbers, ascending, [group].
            group_of: number of the group of each row of a signal, [row].
            signals: whose rows they are.
        """
        found = np.full(len(groups), -np.inf)
        for signal in signals:
            np.maximum.at(found, np.searchsorted(groups, group_of(signal)), self.ends_of_rows(signal))
        return found


def epochs(signal: Signal) -> np.ndarray:
    """Epoch of each row; of a free run, between which two reports it is."""
    return signal.epoch


def _trials(signal: Signal) -> np.ndarray:
    return signal.batch + 1


def _epochs_passed(signal: Signal) -> np.ndarray:
    """Epochs behind every row; the last batch of an epoch ends it."""
    batches = max(1, int(signal.batch.max(initial=0)) + 1)
    return np.where(signal.batch < 0, 0.0, signal.epoch - 1 + (signal.batch + 1) / batches)


def _seconds(signal: Signal) -> np.ndarray:
    return signal.time


def _end_of_step(signal: Signal) -> np.ndarray:
    """A row per step is of the time until the next one is taken."""
    return signal.time + (signal.clock.steps * signal.trace.dt if signal.clock.per == "step" else 0.0)


_EPOCHS = RecordAxis("epoch", epochs, _epochs_passed, epochs)
_TIME = RecordAxis("time, s", epochs, _seconds, _end_of_step)
_TRIALS = RecordAxis("trial", _trials, _trials, _trials)


def label_axis(ax: "Axes", label: str) -> None:
    """Say along the x axis of a figure what its records are; epochs and trials are whole numbers."""
    ax.set_xlabel(label)
    if label != "time, s":
        ax.locator_params("x", integer=True)


def place_in_words(label: str, place: float) -> str:
    """'epoch 3', '0.5 s', 'trial 7'."""
    return f"{place:g} s" if label == "time, s" else f"{label} {place:g}"
