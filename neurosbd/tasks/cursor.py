"""Cursor control through a decoder that is exchanged: which rule changed the network?"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from neurosbd.connections.synapses import is_matrix
from neurosbd.filters import whole_steps
from neurosbd.learning.batch import Batch
from neurosbd.learning.rule import Rule
from neurosbd.network.network import Frame, Network
from neurosbd.neuromodulators import Transposed, overlapping
from neurosbd.rules.rflo import rflo
from neurosbd.schema.constants import Count, Fraction, NotNegative, Seconds, constants
from neurosbd.tasks.findings import Findings, Panel
from neurosbd.tasks.task import Extent, ProtocolTrial, Stage, Teaching

_TARGETS = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
_SHOWN = 50  # points of the learning curve


@constants(called="cursor_control")
class CursorControl:
    """A recurrent network moves a cursor to one of four targets, and has to learn again when its decoder is exchanged.

        cursor = decoder h,    error(t) = (target - cursor(t)) / (steps - t),    reward(t) = -|target - cursor(t)|^2

    The network learns with a first decoder by RFLO whose feedback is that decoder. Then the decoder becomes another
    one, that with which the network was made. `recorded` trials are shown without learning, a session of learning by
    the rule of the experiment follows, and the same number of trials without learning again. What is recorded are these
    three parts, of the session as many trials as of the others, evenly spread; pretraining is not. A trial is `batch`
    movements side by side, each to a target of its own.

    Args:
        duration: of a movement, s, > 0.
        cue: for how long the input of the target is on at its start, s, > 0, at most duration.
        batch: movements side by side, >= 1.
        pretraining: trials with the first decoder, >= 1.
        pretraining_rate: learning rate of plain SGD there, >= 0.
        recorded: trials before and after the session, >= 1.
        session: trials of it, >= recorded.
        overlap: cosine of the first decoder with the second, 0..1.
    Raises:
        ValueError: if a constant is out of range.
    Source: Portes, Schmid, Murray 2022, NeurIPS 35 (Distinguishing learning rules with brain machine interfaces).
    Differs: no noise of the cursor (theirs: variance 0.01); movements come side by side, theirs one by one.
    """

    measured: ClassVar[tuple[str, ...]] = ("distance",)

    duration: Seconds = 20e-3
    cue: Seconds = 4e-3
    batch: Count = 20
    pretraining: Count = 200
    pretraining_rate: NotNegative = 1.0
    recorded: Count = 60
    session: Count = 150
    overlap: Fraction = 0.5

    def __post_init__(self) -> None:
        if self.cue > self.duration:
            raise ValueError(
                f"cursor_control.cue = {self.cue:g} s is longer than cursor_control.duration = {self.duration:g} s"
            )
        if self.session < self.recorded:
            raise ValueError(
                f"cursor_control.session = {self.session} trials are fewer than cursor_control.recorded = "
                f"{self.recorded}; as many of the session are recorded as before and after it"
            )

    def extent(self, dt: float) -> Extent:
        """The trials that are recorded; their target is judged by the squared error."""
        self._steps("cue", dt)
        return Extent(3 * self.recorded, self._steps("duration", dt), self.batch, 0, "squared_error", (2,))

    def _steps(self, name: str, dt: float) -> int:
        return whole_steps(getattr(self, name), dt, f"cursor_control.{name}")

    def check(self, network: Network, rule: Rule) -> None:
        """Four inputs, one recurrent population, a decoder of two outputs that does not learn."""
        shapes = {name: network.populations[name].size for name in ("input", network.readout)}
        recurrent = [c.pre for c in network.connections.values() if c.pre == c.post and c.plastic]
        decoders = network.incoming[network.readout]
        fixed = len(decoders) == 1 and not decoders[0].plastic and is_matrix(network.weights[decoders[0].name])
        if shapes != {"input": (4,), network.readout: (2,)} or not fixed or recurrent != [decoders[0].pre]:
            raise ValueError(
                "protocol 'cursor_control' wants 4 inputs, one population with a plastic connection onto itself, and a "
                "dense connection with plastic = false from it to a readout of 2 units, the decoder; see the model "
                "bmi-cursor"
            )

    def stages(self, dt: float) -> tuple[Stage, ...]:
        """Pretraining, trials without learning, the session, trials without learning."""
        first, few = Teaching(rflo(neuromodulator=Transposed()), self.pretraining_rate), range(self.recorded)
        spread = sorted({int(k) for k in np.linspace(0, self.session - 1, self.recorded)})
        shown = Stage(self.recorded, few, learns=False)
        return Stage(self.pretraining, (), teaching=first), shown, Stage(self.session, spread), shown

    def prepare(self, number: int, network: Network, start: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """Another decoder for the pretraining; afterwards that of the start."""
        (decoder,) = network.incoming[network.readout]
        weight = network.weights[decoder.name]
        with torch.no_grad():
            if number == 0:
                weight.copy_(overlapping(weight.detach().clone(), self.overlap, generator))
            elif number == self.pretraining:
                weight.copy_(start[decoder.name])

    def trial(self, number: int, network: Network, generator: torch.Generator) -> ProtocolTrial:
        """Movements to targets drawn at random, and where they end."""
        batch = self._movements(network.dt, generator, next(network.parameters()))
        last, distance = len(batch.weights) - 1, network.like.new_zeros(())

        def look(t: int, frame: Frame) -> None:
            if t == last:
                distance.copy_((frame.activity[network.readout].value - batch.target).norm(dim=1).mean().detach())

        return ProtocolTrial(batch, lambda: (distance.item(),), (look,))

    def findings(self, found: Mapping[str, np.ndarray], rule: Rule) -> Findings:
        """Distances to the target before, while and after the network learns with its second decoder."""
        ends = np.cumsum([self.pretraining, self.recorded, self.session])
        _, before, curve, after = np.split(found["distance"], ends)
        at = np.unique(np.linspace(0, len(curve) - 1, min(_SHOWN, len(curve))).astype(int))
        width = max(1, len(curve) // _SHOWN)
        lines = {"session": (at, np.array([float(np.mean(curve[max(0, k - width + 1) : k + 1])) for k in at]))}
        panel = Panel("cursor at the end of a movement", "trial of the session", "distance to the target", lines)
        return Findings({"distance_before": float(before.mean()), "distance_after": float(after.mean())}, (panel,))

    def _movements(self, dt: float, generator: torch.Generator, like: Tensor) -> Batch:
        steps, cue = self._steps("duration", dt), self._steps("cue", dt)
        which = torch.randint(len(_TARGETS), (self.batch,), generator=generator).to(like.device)
        inputs = like.new_zeros(steps, self.batch, len(_TARGETS))
        inputs[:cue, torch.arange(self.batch, device=like.device), which] = 1
        target = _TARGETS.to(like)[which]

        def reward(t: int, frame: Frame) -> Tensor:
            return -(target - next(reversed(frame.activity.values())).value).square().sum(1)

        return Batch(inputs, target, [1 / (steps * (steps - t)) for t in range(steps)], task=which, reward=reward)
