"""What being too late, or too early, does to the synapses of a unit, by what had arrived when it spiked."""

import torch
from torch import Tensor

from neurosbd.schema.constants import NotNegative, constants


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
            raise ValueError(
                f"rule needs w_min < w_max, got {self.w_min:g} and {self.w_max:g}; raise rule.w_max or lower w_min"
            )

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
