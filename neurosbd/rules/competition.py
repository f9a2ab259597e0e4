"""Who of the units of a class learns, how much too late it was, and what that does to thresholds."""

import math
from typing import Annotated, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from neurosbd.rules.first_spikes import Spikes, desired_times, winners
from neurosbd.schema.constants import Count, Fraction, NotNegative, Range, Whole, constants

Gap = Annotated[float, Range(above=0, below=1)]


class Roles(NamedTuple):
    """Who is who in an example, [B, n] each."""

    learning: Tensor  # True for the unit of every class that spikes first
    target: Tensor  # True for units that are to be early: of the class of the label, and trained as its targets
    of_class: Tensor  # True for all units of the class of the label


class Teacher(Protocol):
    """Tells every unit how much too late it has spiked."""

    heeds_accuracy: ClassVar[bool]  # whether it goes by the accuracy of the epoch before

    def error(self, spikes: Spikes, roles: Roles, accuracy: Tensor) -> Tensor:
        """(t - t*), positive where the unit was too late; 0 for all that do not learn, [B, n].

        Args:
            spikes: of the readout.
            roles: who learns, and who is to be early.
            accuracy: in the epoch before, [].
        """
        ...


@constants(called="s2_stdp")
class Stabilised:
    """error = t - t* of all that learn, so that they go on being drawn to t*: S2-STDP."""

    gap: Gap = 0.05

    heeds_accuracy: ClassVar[bool] = False

    def error(self, spikes: Spikes, roles: Roles, accuracy: Tensor) -> Tensor:
        """t - t*."""
        wanted = desired_times(spikes.time, roles.learning, roles.target, self.gap)
        return (spikes.time - wanted) * roles.learning


@constants(called="sstdp")
class Satisfied:
    """error = t - t*, but 0 of a target that is earlier than t* and of any other that is later: SSTDP."""

    gap: Gap = 0.05

    heeds_accuracy: ClassVar[bool] = False

    def error(self, spikes: Spikes, roles: Roles, accuracy: Tensor) -> Tensor:
        """t - t* of whoever is on the wrong side of it."""
        time = spikes.time
        wanted = desired_times(time, roles.learning, roles.target, self.gap)
        wanted = torch.where(roles.target, torch.minimum(time, wanted), torch.maximum(time, wanted))
        return (time - wanted) * roles.learning


@constants(called="rstdp_readout")
class Rewarded:
    """Only the first unit to spike learns: error = 1 - accuracy if its class is right, -accuracy if it is wrong."""

    heeds_accuracy: ClassVar[bool] = True

    def error(self, spikes: Spikes, roles: Roles, accuracy: Tensor) -> Tensor:
        """Reward or punishment of one unit; nobody learns where nobody has spiked."""
        first = winners(spikes, spikes.time.shape[1]) & (spikes.time < 1)
        return first * torch.where(roles.of_class, 1 - accuracy, -accuracy)


@constants(called="competition")
class Competition:
    """Units of one class that compete for its examples.

    Args:
        units_per_class: >= 1; the first to spike learns for its class.
        others: how many of these, the first ones, are trained to be late, as units of a wrong class are, >= 0.
        threshold_rate: how much the threshold of the target that wins rises with an example of its class, >= 0.
        annealing: factor on that after each epoch, 0..1.
    Raises:
        ValueError: if there is no unit left to be a target.
    """

    units_per_class: Count = 1
    others: Whole = 0
    threshold_rate: NotNegative = 0.0
    annealing: Fraction = 1.0

    def __post_init__(self) -> None:
        if self.others >= self.units_per_class:
            raise ValueError(
                f"rule.others is {self.others}, so none of the rule.units_per_class = {self.units_per_class} units of "
                f"a class could stand for it; make it at most {self.units_per_class - 1}"
            )

    def of_class(self, count: int, labels: Tensor) -> tuple[Tensor, Tensor]:
        """True for units of the class of each label, and for those of them that are to be early, [B, count] each."""
        place = torch.arange(count, device=labels.device)
        there = place // self.units_per_class == labels[:, None]
        return there, there & (place % self.units_per_class >= self.others)

    def moves(self, spikes: Spikes, target: Tensor) -> Tensor:
        """What the thresholds of n targets of a class do after each example of it, [B, n]: that of the first to spike
        rises by rate (n - 1) / n, those of the others fall by rate / n."""
        rival = self.units_per_class - self.others
        if rival < 2 or not self.threshold_rate:
            return torch.zeros_like(spikes.time)
        among = Spikes(*(each.masked_fill(~target, far) for each, far in zip(spikes, (2, -math.inf), strict=True)))
        first = winners(among, spikes.time.shape[1])
        return first.to(spikes.time) - target.to(spikes.time) / rival
