"""One synapse under pre/post pairing: the STDP window."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neurosbd.constants import check_constants
from neurosbd.local import LocalRun
from neurosbd.memory import blank
from neurosbd.network import Network
from neurosbd.recording import Watch
from neurosbd.rules import LocalRule
from neurosbd.tasks.findings import Findings, Panel
from neurosbd.tasks.task import Extent


@dataclass(frozen=True)
class Pairing:
    """Make the pre and the post unit spike at a lag, again and again, and see what becomes of the weight.

    The network has two inputs: unit 0 is the pre unit, unit 1 a teacher that makes the post unit spike in the
    same step. For every lag the network starts anew, a trial of `pairs` pairings; the change is that of the weight
    from unit 0.

    Args:
        longest: largest lag |t_post - t_pre|, ms, >= 1.
        every: step between lags, ms, >= 1.
        pairs: pairings per lag, >= 1.
        period: from one pairing to the next, ms, > 2 longest.
        reward: that arrives with every step, for rules that wait for one.
        start: weight from unit 0 before the pairings, too small to make a spike.
        teacher: weight from unit 1, large enough for one.
    Raises:
        ValueError: if a constant is out of range.
    Source: Bi, Poo 1998, J. Neurosci. 18 (the measurement).
    """

    longest: int = 80
    every: int = 4
    pairs: int = 1
    period: int = 400
    reward: float = 1.0
    start: float = 0.25
    teacher: float = 1.05

    def __post_init__(self) -> None:
        check_constants(self, "pairing")
        if min(self.longest, self.every, self.pairs) < 1 or not self.period > 2 * self.longest:
            raise ValueError(
                f"pairing needs longest, every and pairs >= 1 and period > 2 longest, got {self.longest}, "
                f"{self.every}, {self.pairs}, {self.period}"
            )

    def extent(self, dt: float) -> Extent:
        """A trial per lag."""
        return Extent(len(self._lags()), self.pairs * self.period, 1)

    def _lags(self) -> np.ndarray:
        return np.arange(-self.longest, self.longest + 1, self.every)

    def carry_out(
        self,
        network: Network,
        rule: LocalRule,
        optimizer: Callable[[Network], torch.optim.Optimizer],
        generator: torch.Generator,
        watch: Callable[[int], Watch],
        progress: Callable[[int, int, str], Any],
    ) -> Findings:
        """Weight change at each lag."""
        lags, untouched = self._lags(), {name: value.clone() for name, value in network.state_dict().items()}
        weight = next(iter(network.weights.values()))
        changes = []
        for done, lag in enumerate(lags):
            network.load_state_dict(untouched)
            with torch.no_grad():
                weight[0, 0], weight[0, 1] = self.start, self.teacher
            run = LocalRun(network, rule, blank(network, rule, None, generator), 0.0, None)
            self._pair(run, optimizer(network), int(lag), watch(done))
            changes.append(weight[0, 0].item() - self.start)
            progress(done + 1, len(lags), f"lag {lag:+} ms: change {changes[-1]:+.4f}")
        change = np.array(changes)
        panel = Panel(
            f"weight change after {self.pairs} pairings", "t_post - t_pre, ms", "change", {"measured": (lags, change)},
            frozenset({"measured"}),
        )  # fmt: skip
        peak = {"largest_potentiation": float(change.max()), "largest_depression": float(change.min())}
        return Findings({**peak, "sum": float(change.sum())}, (panel,))

    @torch.no_grad()
    def _pair(self, run: LocalRun, apply: torch.optim.Optimizer, lag: int, watch: Watch) -> None:
        """One trial; every step changes the weight."""
        run.witness = watch.witness
        weight = next(iter(run.network.weights.values()))
        pre, post = self.longest, self.longest + lag
        frame = run.network.init(weight.new_zeros(1, 2))
        for t in range(self.pairs * self.period):
            x = weight.new_tensor([[float(t % self.period == pre), float(t % self.period == post)]])
            frame = run.network.step(frame, x)
            for observe in watch.observers:
                observe(t, frame)
            reward = weight.new_full((1,), self.reward) if run.rule.rewarded else None
            apply.zero_grad()
            run.step(frame, None, reward, 1.0, 1.0)
            if weight.grad is not None:
                weight.grad[0, 1] = 0  # the teacher stays as it is
                apply.step()
        watch.learned()
        watch.done()
