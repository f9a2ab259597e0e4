"""What a task and a protocol must offer."""

from collections.abc import Callable
from typing import Any, NamedTuple
from typing import Protocol as Interface

import torch
from torch import Tensor

from neurosbd.learners import Outcome, Trial
from neurosbd.network import Network
from neurosbd.recording import Watch
from neurosbd.rules import LocalRule
from neurosbd.tasks.findings import Findings, Panel


class Task(Interface):
    """Makes the trials that a network learns from, and judges what it does in them."""

    @property
    def steps(self) -> int:
        """Per trial, at the step of 1 ms that tasks are told in unless `dt` says otherwise."""
        ...

    def sizes(self) -> tuple[int, int]:
        """Units of the input and of the readout."""
        ...

    def trial(self, batch: int, dt: float, generator: torch.Generator) -> Trial:
        """`batch` new examples, on the CPU, drawn from the generator alone."""
        ...

    def success(self, trial: Trial, outcome: Outcome) -> Tensor:
        """How well each example went, 0..1, [B] (or one for all)."""
        ...

    def measures(self, success: float) -> dict[str, float]:
        """The figures of merit that papers give, from the mean success."""
        ...

    def picture(self, trial: Trial, outputs: Tensor, dt: float) -> Panel:
        """One trial as a picture; outputs [T, B, k]."""
        ...


class Extent(NamedTuple):
    """How long a protocol goes on; its trials follow one another without a gap."""

    trials: int
    steps: int  # per trial
    examples: int  # side by side


class Protocol(Interface):
    """An experiment that is not a training: it drives a network and its rule by itself."""

    def extent(self, dt: float) -> Extent:
        """What `carry_out` will take, at steps of dt, s."""
        ...

    def carry_out(
        self,
        network: Network,
        rule: LocalRule,
        optimizer: Callable[[Network], torch.optim.Optimizer],
        generator: torch.Generator,
        watch: Callable[[int], Watch],
        progress: Callable[[int, int, str], Any],
    ) -> Findings:
        """Measure.

        Args:
            network: with its initial weights.
            rule: what changes them.
            optimizer: how its gradients are applied.
            generator: of all randomness.
            watch: how trial n is watched, asked for when its network is ready to run.
            progress: told (done, of, a line) now and then.
        """
        ...
