"""Schedules by name: how the learning rates of an optimizer move over a training."""

import math
from dataclasses import dataclass
from typing import Annotated, Protocol

from torch.optim import Optimizer, lr_scheduler

from neurosbd.files.checkpoints import StateDict
from neurosbd.schema.constants import Count, Fraction, Legal, constants


class Schedule(Protocol):
    """How the learning rates move over the training."""

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """The torch scheduler, to be stepped after every batch; `steps` batches make an epoch."""
        ...


@dataclass(frozen=True)
class Constant:
    """The rates stay.

    Source: torch.optim.lr_scheduler.ConstantLR.
    """

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """ConstantLR with factor 1."""
        return lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)


@constants
class Exponential:
    """The rates are multiplied by `gamma` after every epoch.

    Args:
        gamma: 0..1.
    Source: Erdogan et al. 2025 (EBD), appendix: gamma = 0.97; torch.optim.lr_scheduler.StepLR.
    """

    gamma: Fraction = 0.97

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """StepLR by epoch."""
        return lr_scheduler.StepLR(optimizer, step_size=steps, gamma=self.gamma)


@constants
class Cosine:
    """The rates fall along half a cosine to `floor` times their start.

    Args:
        floor: last rate as a fraction of the first, 0..1.
    Source: Loshchilov, Hutter 2017, ICLR, without restarts.
    """

    floor: Fraction = 0.0

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """LambdaLR, since CosineAnnealingLR has one floor for all groups."""
        total = epochs * steps
        return lr_scheduler.LambdaLR(
            optimizer,
            lambda step: self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(step / total, 1))),
        )


@constants
class OneCycle:
    """The rates rise from a 25th to their full value and fall to nearly nothing.

    Args:
        rise: fraction of the training spent rising, 0..1.
    Source: Smith, Topin 2018, arXiv 1708.07120; torch.optim.lr_scheduler.OneCycleLR.
    Differs: momentum and betas stay.
    """

    rise: Fraction = 0.3

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """OneCycleLR whose peaks are the rates of the groups."""
        peaks, total = [group["lr"] for group in optimizer.param_groups], max(epochs * steps, 2)
        # OneCycleLR divides by the length of its rise and of its fall, so neither may be exactly 0.
        rise = self.rise * (1 - 1e-9) if 1 in (self.rise, self.rise * total) else self.rise
        return lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=total, pct_start=rise, cycle_momentum=False)


def _rising(epochs: tuple[int, ...]) -> bool:
    return list(epochs) == sorted(set(epochs))


@constants
class Steps:
    """The rates are multiplied by `gamma` at the named epochs.

    Args:
        epochs: after which epochs, increasing.
        gamma: factor, 0..1.
    Source: torch.optim.lr_scheduler.MultiStepLR.
    """

    epochs: Annotated[tuple[Count, ...], Legal("in rising order", _rising)]
    gamma: Fraction = 0.1

    def build(self, optimizer: Optimizer, epochs: int, steps: int) -> lr_scheduler.LRScheduler:
        """MultiStepLR by epoch."""
        return lr_scheduler.MultiStepLR(optimizer, [e * steps for e in self.epochs], self.gamma)


SCHEDULES = {
    "constant": Constant,
    "exponential": Exponential,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "steps": Steps,
}


def plain_state(schedule: lr_scheduler.LRScheduler) -> StateDict:
    """What of a schedule is kept: its numbers."""
    return {key: value for key, value in schedule.state_dict().items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    return isinstance(value, int | float | bool | str | type(None)) or (
        isinstance(value, list | tuple | dict)
        and all(_is_plain(v) for v in (value.values() if isinstance(value, dict) else value))
    )
