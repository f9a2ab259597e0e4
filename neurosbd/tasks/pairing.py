"""One synapse under pre/post pairing: the STDP window."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosbd.constants import Count, Milliseconds, constants
from neurosbd.errors import warn
from neurosbd.filters import whole_steps
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.passes import Continuation
from neurosbd.learning.rule import Rule
from neurosbd.network import Frame, Network
from neurosbd.recording import TrialRecorder
from neurosbd.tasks.findings import Findings, Panel
from neurosbd.tasks.task import Extent, TrialRecorders, check_synapses

_MOST_LAGS = 1_000_000


class _Paired(NamedTuple):
    """How the pairings at one lag went."""

    change: float
    cut: bool  # an update was cut off by a bound of the weight
    missed: bool  # the post unit did not spike exactly when it should


@constants(called="pairing")
class Pairing:
    """Make the pre and the post unit spike at a lag, again and again, and see what becomes of the weight.

    The network has two inputs: unit 0 is the pre unit, unit 1 a teacher that makes the post unit spike in the
    same step, at its end; what arrives in a step comes at its beginning. For every lag the network starts anew, a trial
    of `pairs` pairings; the change is that of the weight from unit 0, which stays within the bounds of the rule after
    every update. Lags are times, the same at every dt.

    Args:
        longest: largest lag |t_post - t_pre|, ms, > 0.
        every: from one lag to the next, ms, > 0.
        pairs: pairings per lag, >= 1.
        period: from one pairing to the next, ms, at least 2 longest + 2 dt. Times are whole steps of dt.
        reward: that arrives with every step, for rules that wait for one.
        start: weight from unit 0 before the pairings, too small to make a spike; within the bounds of the rule.
        teacher: weight from unit 1, large enough for one; it does not learn and has no bounds.
    Raises:
        ValueError: if a constant is out of range.
    Source: Bi, Poo 1998, J. Neurosci. 18 (the measurement).
    """

    longest: Milliseconds = 80.0
    every: Milliseconds = 4.0
    pairs: Count = 1
    period: Milliseconds = 400.0
    reward: float = 1.0
    start: float = 0.25
    teacher: float = 1.05

    def __post_init__(self) -> None:
        if not self.period > 2 * self.longest:
            raise ValueError(
                f"pairing needs period > 2 longest, got period = {self.period:g} ms and longest = {self.longest:g} ms"
            )
        if self.every > 2 * self.longest:
            raise ValueError(
                f"pairing.every = {self.every:g} ms is more than twice pairing.longest = {self.longest:g} ms, so that "
                f"a single lag would be measured; set every to at most {2 * self.longest:g}"
            )

    def extent(self, dt: float) -> Extent:
        """A trial per lag, which has a step left for the last spike to be felt in."""
        period, longest = self._steps("period", dt), self._steps("longest", dt)
        if period < 2 * longest + 2:
            raise ValueError(
                f"pairing.period = {self.period:g} ms leaves no step for the last spike to be felt in; with longest = "
                f"{self.longest:g} ms set it to at least {(2 * longest + 2) * dt * 1e3:g} ms"
            )
        return Extent(len(self._lags(dt)), self.pairs * period, 1)

    def _steps(self, name: str, dt: float) -> int:
        return whole_steps(getattr(self, name), dt, f"pairing.{name}", "ms")

    def _lags(self, dt: float) -> np.ndarray:
        """In steps."""
        longest, every = self._steps("longest", dt), self._steps("every", dt)
        if (number := 2 * longest // every + 1) > _MOST_LAGS:
            raise ValueError(
                f"pairing.longest = {self.longest:g} ms and pairing.every = {self.every:g} ms make {number:.3g} lags; "
                f"legal are {_MOST_LAGS:,}"
            )
        return np.arange(-longest, longest + 1, every)

    def check(self, network: Network, rule: Rule) -> None:
        """Two inputs onto one unit, and a start within the bounds."""
        check_synapses(network, rule, (2, 2), "pairing")
        if rule.bounds is not None and not rule.bounds[0] <= self.start <= rule.bounds[1]:
            low, high = rule.bounds
            raise ValueError(
                f"pairing.start = {self.start:g} is outside the bounds of the rule, w_min = {low:g} to w_max = {high:g}"
            )

    def run(
        self,
        learner: Callable[[], Learner],
        optimizer: Callable[[Network], torch.optim.Optimizer],
        generator: torch.Generator,
        trial_recorder: TrialRecorders,
        progress: Callable[[int, int, str], object],
    ) -> Findings:
        """Weight change at each lag."""
        network = learner().network
        lags, untouched = self._lags(network.dt), {name: value.clone() for name, value in network.state_dict().items()}
        times = self.every * np.arange(len(lags)) - self.longest
        weight = next(iter(network.weights.values()))
        found: list[_Paired] = []
        for done, lag in enumerate(lags):
            network.load_state_dict(untouched)
            with torch.no_grad():
                weight[0, 0], weight[0, 1] = self.start, self.teacher
            found.append(self._pair(learner(), optimizer(network), int(lag), trial_recorder(done)))
            progress(done + 1, len(lags), f"lag {times[done]:+g} ms: change {found[-1].change:+.4f}")
        return self._findings(times, found, learner().rule.bounds)

    @torch.no_grad()
    def _pair(self, learner: Learner, apply: torch.optim.Optimizer, lag: int, trial_recorder: TrialRecorder) -> _Paired:
        """One trial; every step changes the weight."""
        network = learner.network
        weight = next(iter(network.weights.values()))
        period, pre = self._steps("period", network.dt), self._steps("longest", network.dt) + 1
        cut = missed = torch.zeros((), dtype=torch.bool)
        continuation = Continuation(network.init(weight.new_zeros(1, 2)))
        reward = weight.new_full((1,), self.reward)
        for t in range(self.pairs * period):
            teaching = t % period == pre + lag - 1  # the spike comes as this step ends
            fired: list[Tensor] = []

            def watch(_: int, frame: Frame, t: int = t, fired: list[Tensor] = fired) -> None:
                fired.append(frame.activity[network.readout].value[0, 0] > 0)
                for observe in trial_recorder.observers:
                    observe(t, frame)

            batch = Batch(
                weight.new_tensor([[[float(t % period == pre), float(teaching)]]]), reward=lambda t, frame: reward
            )
            apply.zero_grad()
            learner.learn(batch, (watch,), None, trial_recorder.learning_observer, continuation)
            missed = missed | (fired[0] != teaching)
            if weight.grad is not None:
                apply.step()
                free = weight[0, 0].clone()
                learner.after_step()
                cut = cut | (weight[0, 0] != free)
                weight[0, 1] = self.teacher  # stays as it is
        trial_recorder.on_gradients()
        trial_recorder.on_update()
        return _Paired(weight[0, 0].item() - self.start, bool(cut), bool(missed))

    def _findings(self, times: np.ndarray, found: list[_Paired], bounds: tuple[float, float] | None) -> Findings:
        """Curve and peaks; what makes them another thing than the rule's window is said."""
        change, title = np.array([at.change for at in found]), f"weight change after {self.pairs} pairings"
        if cut := sum(at.cut for at in found):
            own = "w_min = {:g} to w_max = {:g}".format(*bounds) if bounds else "the constraints of its connection"
            title += f"; cut off by the bounds at {cut} lags"
            warn(
                f"the weight was cut off by its bounds, {own}, at {cut} of {len(found)} lags, so this is not the whole "
                f"window; take a smaller training.optimizer.lr or fewer protocol.pairs, or set w_min and w_max of "
                f"rule.plasticity.window, or the constraints, further apart"
            )
        if missed := [time for time, at in zip(times, found, strict=True) if at.missed]:
            warn(
                f"the post unit did not spike exactly when its teacher did, at {len(missed)} of {len(found)} lags (the "
                f"first: {missed[0]:+g} ms), so other pairs than those counted; lower protocol.start = {self.start:g}, "
                f"raise protocol.teacher = {self.teacher:g}, or shorten its refractory time"
            )
        panel = Panel(title, "t_post - t_pre, ms", "change", {"measured": (times, change)}, frozenset({"measured"}))
        peak = {"largest_potentiation": float(change.max()), "largest_depression": float(change.min())}
        return Findings({**peak, "sum": float(change.sum())}, (panel,))
