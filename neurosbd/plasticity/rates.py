"""The rates that Hebbian rules of rates multiply: activity as it is, or averaged over time."""

from typing import NamedTuple

from torch import Tensor

from neurosbd.eligibility.local import Local
from neurosbd.filters import decay


class Rates(NamedTuple):
    """Activity of both sides, averaged over the time constant of a rule."""

    pre: Tensor  # [B, *arriving]
    post: Tensor  # [B, *size]


def averaged(state: Rates | None, local: Local, tau: float | None, dt: float) -> Rates:
    """Both sides one step later: a <- exp(-dt / tau) a + (1 - exp(-dt / tau)) activity.

    Args:
        state: before; none: at the first step, where nothing was before.
        local: of this step.
        tau: s, > 0; none: the activity of this step itself.
        dt: step, s.
    """
    now = Rates(local.pre, local.post.value)
    if tau is None:
        return now
    kept = decay(tau, dt)
    if state is None:
        return Rates(now.pre * (1 - kept), now.post * (1 - kept))
    return Rates(*(kept * before + (1 - kept) * value for before, value in zip(state, now, strict=True)))
