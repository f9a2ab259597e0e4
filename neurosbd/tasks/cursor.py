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
from neurosbd.noise import new_key, normal_by_place
from neurosbd.rules.rflo import rflo
from neurosbd.schema.constants import Count, Fraction, NotNegative, Seconds, constants
from neurosbd.tasks.findings import Findings, Panel
from neurosbd.tasks.task import Extent, ProtocolTrial, Stage, Teaching

_TARGETS = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
_SHOWN = 50  # points of the learning curve


@constants(called="cursor_control")
class CursorControl:
    """A recurrent network moves a cursor to one of four targets, and has to learn again when its decoder is exchanged.

        cursor = decoder h + noise xi,    xi ~ N(0, 1)
        error(t) = (target - cursor(t)) / (steps - t),    reward(t) = -|target - cursor(t)|^2

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
        noise: standard deviation of what is added to either coordinate of the cursor in every step, >= 0; 0: none.
            Error, reward and distance have it. A function of its key, the step and the movement, as all noise here.
    Raises:
        ValueError: if a constant is out of range.
    Source: Portes, Schmid, Murray 2022, NeurIPS 35 (Distinguishing learning rules with brain machine interfaces).
    Differs: no noise of the cursor unless asked for (theirs: variance 0.01, which is noise = 0.1); movements come side
        by side, theirs one by one.
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
    noise: NotNegative = 0.0

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
        batch = self._movements(network, generator)
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

    def _movements(self, network: Network, generator: torch.Generator) -> Batch:
        steps, cue = self._steps("duration", network.dt), self._steps("cue", network.dt)
        like = network.like
        which = torch.randint(len(_TARGETS), (self.batch,), generator=generator).to(like.device)
        inputs = like.new_zeros(steps, self.batch, len(_TARGETS))
        inputs[:cue, torch.arange(self.batch, device=like.device), which] = 1
        target = _TARGETS.to(like)[which]

        def reward(t: int, frame: Frame) -> Tensor:
            return -(target - next(reversed(frame.activity.values())).value).square().sum(1)

        weights = [1 / (steps * (steps - t)) for t in range(steps)]
        drives = {network.readout: self._shaking(steps, generator, target)} if self.noise else {}
        return Batch(inputs, target, weights, task=which, reward=reward, drives=drives)

    def _shaking(self, steps: int, generator: torch.Generator, like: Tensor) -> Tensor:
        """The noise of the cursor in all steps, [T, B, 2]."""
        key, numbers = new_key(generator, "a cursor", like.device), torch.arange(steps, device=like.device)
        return self.noise * torch.stack([normal_by_place(key, step, like) for step in numbers.unbind()])
