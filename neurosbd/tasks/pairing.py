"""One synapse under pre/post pairing: the STDP window."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from neurosbd.errors import warn
from neurosbd.filters import whole_steps
from neurosbd.learning.batch import Batch
from neurosbd.learning.rule import Rule
from neurosbd.network.inputs import Frames
from neurosbd.network.network import Frame, Network
from neurosbd.schema.constants import Count, Seconds, constants
from neurosbd.tasks.findings import Findings, Panel
from neurosbd.tasks.task import Extent, ProtocolTrial, Stage, check_synapses

_MOST_LAGS = 1_000_000


@constants(called="pairing")
class Pairing:
    """Make the pre and the post unit spike at a lag, again and again, and see what becomes of the weight.

    The network has two inputs: unit 0 is the pre unit, unit 1 a teacher that makes the post unit spike in the
    same step, at its end; what arrives in a step comes at its beginning. For every lag the network starts anew, a trial
    of `pairs` pairings; the change is that of the weight from unit 0, which stays within the bounds of the rule after
    every update. Lags are times, the same at every dt.

    Args:
        longest: largest lag |t_post - t_pre|, s, > 0.
        every: from one lag to the next, s, > 0.
        pairs: pairings per lag, >= 1.
        period: from one pairing to the next, s, at least 2 longest + 2 dt. Times are whole steps of dt.
        reward: that arrives with every step, for rules that wait for one.
        start: weight from unit 0 before the pairings, too small to make a spike; within the bounds of the rule.
        teacher: weight from unit 1, large enough for one; it does not learn and has no bounds.
    Raises:
        ValueError: if a constant is out of range.
    Source: Bi, Poo 1998, J. Neurosci. 18 (the measurement).
    """

    measured: ClassVar[tuple[str, ...]] = ("lag_ms", "change", "cut", "missed")

    longest: Seconds = 80e-3
    every: Seconds = 4e-3
    pairs: Count = 1
    period: Seconds = 0.4
    reward: float = 1.0
    start: float = 0.25
    teacher: float = 1.05

    def __post_init__(self) -> None:
        if not self.period > 2 * self.longest:
            raise ValueError(
                f"pairing needs period > 2 longest, got period = {self.period:g} s and longest = {self.longest:g} s"
            )
        if self.every > 2 * self.longest:
            raise ValueError(
                f"pairing.every = {self.every:g} s is more than twice pairing.longest = {self.longest:g} s, so that "
                f"a single lag would be measured; set every to at most {2 * self.longest:g} s"
            )

    def extent(self, dt: float) -> Extent:
        """A trial per lag, which has a step left for the last spike to be felt in."""
        period, longest = self._steps("period", dt), self._steps("longest", dt)
        if period < 2 * longest + 2:
            raise ValueError(
                f"pairing.period = {self.period:g} s leaves no step for the last spike to be felt in; with longest = "
                f"{self.longest:g} s set it to at least {(2 * longest + 2) * dt:g} s"
            )
        return Extent(len(self._lags(dt)), self.pairs * period, 1)

    def _steps(self, name: str, dt: float) -> int:
        return whole_steps(getattr(self, name), dt, f"pairing.{name}")

    def in_steps(self, dt: float) -> tuple[int, np.ndarray]:
        """The period and all lags, in steps."""
        return self._steps("period", dt), self._lags(dt)

    def _lags(self, dt: float) -> np.ndarray:
        """In steps."""
        longest, every = self._steps("longest", dt), self._steps("every", dt)
        if (number := 2 * longest // every + 1) > _MOST_LAGS:
            raise ValueError(
                f"pairing.longest = {self.longest:g} s and pairing.every = {self.every:g} s make {number:.3g} lags; "
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

    def stages(self, dt: float) -> tuple[Stage, ...]:
        """A trial per lag, each of which changes the weight at every step and begins anew."""
        lags = len(self._lags(dt))
        return (Stage(lags, range(lags), update=1, anew=True),)

    def prepare(self, number: int, network: Network, start: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """The weight of the pre unit and that of the teacher."""
        weight = next(iter(network.weights.values()))
        with torch.no_grad():
            weight[0, 0], weight[0, 1] = self.start, self.teacher

    def trial(self, number: int, network: Network, generator: torch.Generator) -> ProtocolTrial:
        """The pairings at one lag."""
        watched = _Lag(self, number, network)
        weight, steps = watched.weight, self.pairs * watched.period
        frames = (weight.new_tensor([[float(watched.pre(t)), float(watched.teaching(t))]]) for t in range(steps))
        reward = weight.new_full((1,), self.reward)
        batch = Batch(Frames(steps, frames), weights=(1 / steps,) * steps, reward=lambda t, frame: reward)
        return ProtocolTrial(batch, watched.read, (watched.observe,), watched.on_step, watched.on_update)

    def findings(self, found: Mapping[str, np.ndarray], rule: Rule) -> Findings:
        """Curve and peaks; what makes them another thing than the rule's window is said."""
        times, change, bounds = found["lag_ms"], found["change"], rule.bounds
        title = f"weight change after {self.pairs} pairings"
        if cut := int(found["cut"].sum()):
            own = "w_min = {:g} to w_max = {:g}".format(*bounds) if bounds else "the constraints of its connection"
            title += f"; cut off by the bounds at {cut} lags"
            warn(
                f"the weight was cut off by its bounds, {own}, at {cut} of {len(times)} lags, so this is not the whole "
                f"window; take a smaller training.optimizer.lr or fewer protocol.pairs, or set w_min and w_max of "
                f"rule.plasticity.window, or the constraints, further apart"
            )
        if len(missed := times[found["missed"] > 0]):
            warn(
                f"the post unit did not spike exactly when its teacher did, at {len(missed)} of {len(times)} lags (the "
                f"first: {missed[0]:+g} ms), so other pairs than those counted; lower protocol.start = {self.start:g}, "
                f"raise protocol.teacher = {self.teacher:g}, or shorten its refractory time"
            )
        panel = Panel(title, "t_post - t_pre, ms", "change", {"measured": (times, change)}, frozenset({"measured"}))
        peak = {"largest_potentiation": float(change.max()), "largest_depression": float(change.min())}
        return Findings({**peak, "sum": float(change.sum())}, (panel,))


class _Lag:
    """The pairings at one lag: when which unit spikes, and what becomes of the weight."""

    def __init__(self, pairing: Pairing, number: int, network: Network) -> None:
        self.pairing, self.readout = pairing, network.readout
        self.weight = next(iter(network.weights.values()))
        period, lags = pairing.in_steps(network.dt)
        self.period, self.first, self.lag = period, 1 - int(lags[0]), int(lags[number])
        self.lag_ms = self.lag * (network.dt * 1e3)  # in this order whole at steps of 1 ms
        self.cut = self.missed = torch.zeros((), dtype=torch.bool, device=self.weight.device)
        self.free = self.weight

    def pre(self, t: int) -> bool:
        """Whether the pre unit spikes at the beginning of step t."""
        return t % self.period == self.first

    def teaching(self, t: int) -> bool:
        """Whether the teacher makes the post unit spike at the end of step t."""
        return t % self.period == self.first + self.lag - 1

    @torch.no_grad()
    def observe(self, t: int, frame: Frame) -> None:
        """See whether the post unit spikes when it should."""
        self.missed = self.missed | ((frame.activity[self.readout].value[0, 0] > 0) != self.teaching(t))

    @torch.no_grad()
    def on_step(self) -> None:
        """The weight as it would be without bounds."""
        self.free = self.weight[0, 0].clone()

    @torch.no_grad()
    def on_update(self) -> None:
        """See whether an update was cut off; the teacher stays as it is."""
        self.cut = self.cut | (self.weight[0, 0] != self.free)
        self.weight[0, 1] = self.pairing.teacher

    def read(self) -> tuple[float, ...]:
        """The lag, the change, and whether a bound cut it off or the post unit missed its time."""
        return self.lag_ms, self.weight[0, 0].item() - self.pairing.start, float(self.cut), float(self.missed)
