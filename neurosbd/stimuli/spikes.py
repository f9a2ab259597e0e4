"""Spikes at given times, from a file or a list."""

import hashlib
import math
from dataclasses import field

import numpy as np
import torch
from torch import Tensor

from neurosbd.errors import warn
from neurosbd.filters import COUNTED
from neurosbd.schema.constants import NotNegativeSeconds, Whole, constants
from neurosbd.stimuli.spike_files import Spikes, read_spikes
from neurosbd.stimuli.stimulus import StepsDone


@constants(called="spikes")
class SpikeTrains:
    """Spikes at given times of given units, each in the step nearest to it.

    Args:
        times: s, >= 0, in any order.
        units: whose they are, as many: 0, 1, 2, ...; of a map counted through.
        file: in their place: .csv (columns time, unit), .npz (arrays times, units), .nwb or SONATA (.h5).
        source: which population of a .nwb or .h5 that has several.
        amplitude: what a spike adds to the drive.
    Raises:
        ValueError: if there are both lists and a file, neither, or not a unit for every time.
    Source: SONATA (Dai et al. 2020) and NWB (Rubel et al. 2022) for the files; SpikeGeneratorGroup of Brian.
    """

    times: tuple[NotNegativeSeconds, ...] = ()
    units: tuple[Whole, ...] = ()
    file: str = ""
    source: str = ""
    amplitude: float = 1.0
    _known: dict[float, tuple[np.ndarray, np.ndarray]] = field(  # dt -> step and unit of every spike, ascending
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if len(self.times) != len(self.units):
            raise ValueError(f"spikes needs a unit for every time, got {len(self.times)} and {len(self.units)}")
        if self.times and self.file:
            raise ValueError("spikes takes times and units, or a file, got both")

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """Units that are there; what falls into one step is said."""
        if not self.file and not self.times:
            raise ValueError("spikes needs times and units, or a file, got neither")
        where, count = self.file or "spikes.units", math.prod(size)
        steps, units = self._in_steps(dt)
        if not len(units):
            warn(f"{where}: holds no spikes, so that it gives nothing")
        if len(units) and units.max() >= count:
            raise ValueError(f"{where}: unit {units.max()} is not there; the population has {count}, 0..{count - 1}")
        twice = int(((np.diff(steps) == 0) & (np.diff(units) == 0)).sum())
        if twice:
            warn(
                f"{where}: {twice:,} of {len(steps):,} spikes share a step of dt = {dt:g} s with one of the same unit, "
                f"so that their drives add up; take a smaller time.dt if that is not meant"
            )

    def _in_steps(self, dt: float) -> tuple[np.ndarray, np.ndarray]:
        """Step and unit of every spike, ascending; a file is read once."""
        if dt not in self._known:
            given = Spikes(np.array(self.times, np.float64), np.array(self.units, np.int64))
            times, units = read_spikes(self.file, self.source) if self.file else given
            if len(times) and times.max() / dt > COUNTED:
                raise ValueError(f"{self.file or 'spikes.times'}: {times.max():g} s is beyond what steps can count")
            steps = np.round(times / dt).astype(np.int64)
            order = np.lexsort((units, steps))
            self._known[dt] = steps[order], units[order]
        return self._known[dt]

    def moments(self, dt: float) -> np.ndarray:
        """The steps of all spikes."""
        return self._in_steps(dt)[0]

    def content(self, dt: float) -> str:
        """A hash of the spikes, of those of a file."""
        return hashlib.sha256(b"".join(part.tobytes() for part in self._in_steps(dt))).hexdigest() if self.file else ""

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> StepsDone:
        """Its beginning."""
        return StepsDone(0)

    def block(self, state: StepsDone, like: Tensor, steps: int, dt: float) -> tuple[Tensor, StepsDone]:
        """amplitude at the spikes, [steps, B, *size]."""
        when, whose = self._in_steps(dt)
        begin, end = np.searchsorted(when, (state.done, state.done + steps))
        drive = like.new_zeros((steps, like[0].numel()))
        at = torch.from_numpy(when[begin:end] - state.done), torch.from_numpy(whose[begin:end])
        at = tuple(index.to(like.device) for index in at)
        drive.index_put_(at, like.new_tensor(self.amplitude), accumulate=True)
        whole = drive.view(steps, 1, *like.shape[1:]).expand(steps, *like.shape)
        return whole.contiguous(), StepsDone(state.done + steps)
