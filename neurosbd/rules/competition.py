"""Who of the units of a class learns, how much too late it was, and what that does to synapses and thresholds."""

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


@constants
class CausalWindow:
    """What an error does to the synapses of a unit:

        change[n, i] = error[n] a_plus                    where input i has spiked by the time of n
                     = -error[n] a_minus                  elsewhere, and of inputs that stay silent
        a_plus <- a_plus exp(-slope (w - w_min) / (w_max - w_min));   a_minus <- a_minus exp(-slope (w_max - w) / ..)

    Where an error is negative, `anti_plus` and `anti_minus` may stand for `a_plus` and `a_minus`. All inputs count as
    in time for a unit that has not spiked. With slope = 0 changes do not depend on the weight.

    Args:
        a_plus: size of potentiation, >= 0.
        a_minus: size of depression, >= 0.
        slope: how much less a weight moves near the bound it moves to, >= 0.
        w_min: where a weight is least.
        w_max: where it is largest, > w_min.
        anti_plus: in place of a_plus where the error is negative, >= 0; None: the same.
        anti_minus: in place of a_minus there, >= 0; None: the same.
    Raises:
        ValueError: if a constant is out of range.
    """

    a_plus: NotNegative = 0.1
    a_minus: NotNegative = 0.1
    slope: NotNegative = 0.0
    w_min: float = 0.0
    w_max: float = 1.0
    anti_plus: NotNegative | None = None
    anti_minus: NotNegative | None = None

    def __post_init__(self) -> None:
        if not self.w_min < self.w_max:
            raise ValueError(f"rule needs w_min < w_max, got {self.w_min} and {self.w_max}")

    def change(self, error: Tensor, time: Tensor, arrived: Tensor, weight: Tensor) -> Tensor:
        """The sum over examples, [n, m].

        Args:
            error: of each unit, [B, n].
            time: of its spike, [B, n].
            arrived: when inputs spiked first, [B, m].
            weight: [n, m].
        """
        if self.anti_plus is None and self.anti_minus is None:
            return self._change(error, time, arrived, weight, (self.a_plus, self.a_minus))
        anti_plus = self.a_plus if self.anti_plus is None else self.anti_plus
        anti_minus = self.a_minus if self.anti_minus is None else self.anti_minus
        late = self._change(error.clamp(min=0), time, arrived, weight, (self.a_plus, self.a_minus))
        return late + self._change(error.clamp(max=0), time, arrived, weight, (anti_plus, anti_minus))

    def _change(
        self, error: Tensor, time: Tensor, arrived: Tensor, weight: Tensor, sizes: tuple[float, float]
    ) -> Tensor:
        """The same by sizes of its own, of what is in time and of the rest."""
        up = torch.einsum("bn,bnm->nm", error, (arrived[:, None] <= time[:, :, None]).to(error))
        down = error.sum(0)[:, None] - up
        if self.slope:
            place = (weight - self.w_min) * (self.slope / (self.w_max - self.w_min))
            up, down = up * torch.exp(-place), down * torch.exp(place - self.slope)
        return sizes[0] * up - sizes[1] * down


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
