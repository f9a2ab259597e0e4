"""A reward for a post spike that follows a pre spike."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.filters import whole_steps
from neurosbd.rewards.contingency import check_unit, fired
from neurosbd.schema.constants import Seconds, Whole, constants


class Since(NamedTuple):
    """How long ago the pre unit fired."""

    steps: Tensor  # [B], beyond the window if it has not, or has earned its reward


@constants(called="coincidence")
class Coincidence:
    """Earned when a unit of `post` spikes sooner than `window` after a unit of `pre`, and not in the same step.

    Every pre spike earns one reward at most; of several the latest counts.

    Args:
        pre, post: names of populations.
        pre_unit, post_unit: which of their units, 0, 1, 2, ...; of a map counted through.
        window: s, > 0, in whole steps of dt; a lag of `window` earns nothing any more.
    Raises:
        ValueError: if a constant is out of range; `check`: if there is no such population or unit.
    Source: Izhikevich 2007, Cereb. Cortex 17, figure 1 (post within 10 ms after pre).
    """

    pre: str = "input"
    post: str = "output"
    pre_unit: Whole = 0
    post_unit: Whole = 0
    window: Seconds = 10e-3

    def check(self, sizes: Mapping[str, tuple[int, ...]], dt: float) -> None:
        """Units that are there, and a window of whole steps in which there is a lag that earns something."""
        check_unit(self.pre, self.pre_unit, sizes)
        check_unit(self.post, self.post_unit, sizes)
        if whole_steps(self.window, dt, "coincidence.window") < 2:
            raise ValueError(
                f"coincidence.window = {self.window:g} s has one step, and lags of 0 earn nothing; set it to at least "
                f"{2 * dt:g} s"
            )

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> Since:
        """No spike yet."""
        return Since(torch.full_like(like, whole_steps(self.window, dt, "coincidence.window")))

    def step(self, state: Since, activity: Mapping[str, Tensor], dt: float) -> tuple[Tensor, Since]:
        """1 where the post unit has followed."""
        window = whole_steps(self.window, dt, "coincidence.window")
        pre, post = fired(activity, self.pre, self.pre_unit), fired(activity, self.post, self.post_unit)
        steps = state.steps + 1
        hit = post & (steps < window)
        steps = torch.where(pre, 0.0, torch.where(hit, float(window), steps))
        return hit.to(state.steps.dtype), Since(steps.clamp(max=window))
