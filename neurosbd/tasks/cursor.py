"""Cursor control through a decoder that is exchanged: which rule changed the network?"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from neurosbd.connections.synapses import is_matrix
from neurosbd.constants import Count, Fraction, Milliseconds, NotNegative, constants
from neurosbd.filters import whole_steps
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.rule import Rule
from neurosbd.network import Frame, Network
from neurosbd.neuromodulators import Transposed, overlapping
from neurosbd.recording import NullRecorder
from neurosbd.rules.rflo import rflo
from neurosbd.tasks.findings import Findings, Panel
from neurosbd.tasks.task import Extent, TrialRecorders

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
        duration: of a movement, ms, > 0.
        cue: for how long the input of the target is on at its start, ms, > 0, at most duration.
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

    duration: Milliseconds = 20.0
    cue: Milliseconds = 4.0
    batch: Count = 20
    pretraining: Count = 200
    pretraining_rate: NotNegative = 1.0
    recorded: Count = 60
    session: Count = 150
    overlap: Fraction = 0.5

    def __post_init__(self) -> None:
        if self.cue > self.duration:
            raise ValueError(
                f"cursor_control.cue = {self.cue:g} ms is longer than cursor_control.duration = {self.duration:g} ms"
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
        return whole_steps(getattr(self, name), dt, f"cursor_control.{name}", "ms")

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

    def run(
        self,
        learner: Callable[[], Learner],
        optimizer: Callable[[Network], torch.optim.Optimizer],
        generator: torch.Generator,
        trial_recorder: TrialRecorders,
        progress: Callable[[int, int, str], object],
    ) -> Findings:
        """Distances to the target before, while and after the network learns with its second decoder."""
        learns = learner()
        session = _Session(self, learns, generator, trial_recorder, progress)
        self._pretrain(session)
        before = session.shown(0)
        curve = session.learned(learns, optimizer(learns.network), self.session, self.recorded)
        after = session.shown(2 * self.recorded)
        at = np.unique(np.linspace(0, len(curve) - 1, min(_SHOWN, len(curve))).astype(int))
        width = max(1, len(curve) // _SHOWN)
        lines = {"session": (at, np.array([float(np.mean(curve[max(0, k - width + 1) : k + 1])) for k in at]))}
        panel = Panel("cursor at the end of a movement", "trial of the session", "distance to the target", lines)
        measures = {"distance_before": before, "distance_after": after}
        return Findings(measures, (panel,))

    def _pretrain(self, session: "_Session") -> None:
        """Learn with the first decoder; the second one is there again in the end."""
        network, weight = session.network, session.network.weights[session.decoder.name]
        own = weight.detach().clone()
        with torch.no_grad():
            weight.copy_(overlapping(own, self.overlap, session.generator))
        first = Learner(network, rflo(neuromodulator=Transposed()), session.loss, session.generator)
        apply = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], self.pretraining_rate)
        session.learned(first, apply, self.pretraining, 0)
        with torch.no_grad():
            weight.copy_(own)

    def trial(self, dt: float, generator: torch.Generator, like: Tensor) -> Batch:
        """Movements to targets drawn at random."""
        steps, cue = self._steps("duration", dt), self._steps("cue", dt)
        which = torch.randint(len(_TARGETS), (self.batch,), generator=generator)
        inputs = like.new_zeros(steps, self.batch, len(_TARGETS))
        inputs[:cue, torch.arange(self.batch), which] = 1
        target = _TARGETS.to(like)[which]

        def reward(t: int, frame: Frame) -> Tensor:
            return -(target - next(reversed(frame.activity.values())).value).square().sum(1)

        return Batch(inputs, target, [1 / (steps * (steps - t)) for t in range(steps)], task=which, reward=reward)


class _Session:
    """The network at its screen: trials with and without learning, those that are recorded counted."""

    def __init__(
        self,
        constants: CursorControl,
        learner: Learner,
        generator: torch.Generator,
        trial_recorder: TrialRecorders,
        progress: Callable[[int, int, str], object],
    ) -> None:
        self.constants = constants
        self.learner = learner
        self.network = learner.network
        self.loss = learner.loss
        self.generator = generator
        self.trial_recorder = trial_recorder
        self.progress = progress
        (self.decoder,) = self.network.incoming[self.network.readout]

    def _batch(self) -> Batch:
        return self.constants.trial(self.network.dt, self.generator, next(self.network.parameters()))

    def _end(self, distances: list[float], batch: Batch) -> Callable[[int, Frame], None]:
        """Observer of where the cursor is at the end."""
        last = len(batch.weights) - 1

        def look(t: int, frame: Frame) -> None:
            if t == last:
                away = frame.activity[self.network.readout].value - batch.target
                distances.append(away.norm(dim=1).mean().item())

        return look

    def shown(self, first: int) -> float:
        """Trials without learning, recorded from this number on; mean distance at their end."""
        distances: list[float] = []
        for number in range(first, first + self.constants.recorded):
            batch = self._batch()
            trial = self.trial_recorder(number, batch)
            self.learner.answer(batch, (*trial.observers, self._end(distances, batch)), self.generator)
            trial.on_gradients()
            trial.on_update()
        return float(np.mean(distances))

    def learned(self, learner: Learner, apply: torch.optim.Optimizer, trials: int, recorded: int) -> list[float]:
        """Trials with learning, so many of them recorded; distance at the end of each."""
        distances: list[float] = []
        chosen = {int(k) for k in np.linspace(0, trials - 1, recorded)} if recorded else set()
        number, told = recorded, max(1, trials // 100)
        for done in range(trials):
            batch, trial = self._batch(), NullRecorder()
            if done in chosen:
                trial, number = self.trial_recorder(number, batch), number + 1
            apply.zero_grad()
            look = self._end(distances, batch)
            learner.learn(batch, (*trial.observers, look), self.generator, trial.learning_observer)
            trial.on_gradients()
            apply.step()
            learner.after_step()
            trial.on_update()
            if done % told == 0 or done == trials - 1:
                what = "session" if recorded else "pretraining"
                self.progress(done + 1, trials, f"{what}: distance {np.mean(distances[-told:]):.3f}")
        return distances
