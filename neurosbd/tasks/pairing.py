"""One synapse under pre/post pairing: the STDP window."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosbd.constants import Count, Milliseconds, constants
from neurosbd.constraints import Bounds, Held
from neurosbd.errors import warn
from neurosbd.filters import whole_steps
from neurosbd.learning.online import LocalRun
from neurosbd.learning.rule_state import init_rule_state
from neurosbd.network import Network
from neurosbd.neuromodulators.neuromodulator import Broadcast
from neurosbd.recording import TrialRecorder
from neurosbd.rules import LocalRule
from neurosbd.tasks.findings import Findings, Panel
from neurosbd.tasks.task import Extent, check_synapses

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
    same step. For every lag the network starts anew, a trial of `pairs` pairings; the change is that of the weight
    from unit 0, which stays within the bounds of the rule after every update. Lags are times, the same at every dt.

    Args:
        longest: largest lag |t_post - t_pre|, ms, > 0.
        every: from one lag to the next, ms, > 0.
        pairs: pairings per lag, >= 1.
        period: from one pairing to the next, ms, > 2 longest. Times are whole steps of dt.
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
        """A trial per lag."""
        return Extent(len(self._lags(dt)), self.pairs * self._steps("period", dt), 1)

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

    def check(self, network: Network, rule: LocalRule) -> None:
        """Two inputs onto one unit, and a start within the bounds."""
        check_synapses(network, rule, (2, 2), "pairing")
        if rule.bounds is not None and not rule.bounds[0] <= self.start <= rule.bounds[1]:
            low, high = rule.bounds
            raise ValueError(
                f"pairing.start = {self.start:g} is outside the bounds of the rule, w_min = {low:g} to w_max = {high:g}"
            )

    def run(
        self,
        network: Network,
        rule: LocalRule,
        optimizer: Callable[[Network], torch.optim.Optimizer],
        generator: torch.Generator,
        trial_recorder: Callable[[int], TrialRecorder],
        progress: Callable[[int, int, str], Any],
    ) -> Findings:
        """Weight change at each lag."""
        lags, untouched = self._lags(network.dt), {name: value.clone() for name, value in network.state_dict().items()}
        times = self.every * np.arange(len(lags)) - self.longest
        ((name, weight),) = network.weights.items()
        bounds = {name: held} if (held := self._bounds(rule, weight)) else {}
        found: list[_Paired] = []
        for done, lag in enumerate(lags):
            network.load_state_dict(untouched)
            with torch.no_grad():
                weight[0, 0], weight[0, 1] = self.start, self.teacher
            run = LocalRun(network, rule, init_rule_state(network, rule, None, generator))
            found.append(self._pair(run, optimizer(network), int(lag), trial_recorder(done), bounds))
            progress(done + 1, len(lags), f"lag {times[done]:+g} ms: change {found[-1].change:+.4f}")
        return self._findings(times, found, rule)

    def _bounds(self, rule: LocalRule, weight: Tensor) -> Held | None:
        """Of the rule for the weight from unit 0; the teacher stays where it is."""
        if rule.bounds is None:
            return None
        low, high = (torch.tensor([[bound, self.teacher]]) for bound in rule.bounds)
        bounds = Bounds(low, high)
        return Held(bounds, bounds.limited(weight))

    @torch.no_grad()
    def _pair(
        self, run: LocalRun, apply: torch.optim.Optimizer, lag: int, trial_recorder: TrialRecorder,
        bounds: Mapping[str, Held],
    ) -> _Paired:  # fmt: skip
        """One trial; every step changes the weight."""
        run.learning_observer, network = trial_recorder.learning_observer, run.network
        weight = next(iter(network.weights.values()))
        period, pre = self._steps("period", network.dt), self._steps("longest", network.dt)
        cut = missed = torch.zeros((), dtype=torch.bool)
        frame = network.init(weight.new_zeros(1, 2))
        for t in range(self.pairs * period):
            teaching = t % period == pre + lag
            frame = network.step(frame, weight.new_tensor([[float(t % period == pre), float(teaching)]]))
            missed = missed | ((frame.activity[network.readout].value[0, 0] > 0) != teaching)
            for observe in trial_recorder.observers:
                observe(t, frame)
            reward = weight.new_full((1,), self.reward) if run.rule.rewarded else None
            apply.zero_grad()
            run.step(frame, Broadcast(weight.new_empty((1, 0)), reward=reward))
            if weight.grad is not None:
                network.mask_gradients()
                weight.grad[0, 1] = 0  # the teacher stays as it is
                apply.step()
                before = weight[0, 0].clone()
                network.constrain(bounds)
                cut = cut | (weight[0, 0] != before)
        trial_recorder.on_gradients()
        trial_recorder.on_update()
        return _Paired(weight[0, 0].item() - self.start, bool(cut), bool(missed))

    def _findings(self, times: np.ndarray, found: list[_Paired], rule: LocalRule) -> Findings:
        """Curve and peaks; what makes them another thing than the rule's window is said."""
        change, title = np.array([at.change for at in found]), f"weight change after {self.pairs} pairings"
        if cut := sum(at.cut for at in found):
            low, high = rule.bounds or (0.0, 0.0)
            title += f"; cut off by the bounds at {cut} lags"
            own = f"w_min = {low:g} to w_max = {high:g}" if rule.bounds else "the constraints of its connection"
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
