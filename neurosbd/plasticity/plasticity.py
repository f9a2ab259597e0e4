"""What a plasticity is."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local


class Plasticity(Protocol):
    """Turns local quantities into a loss-gradient-shaped change. No learning rate in here."""

    def init(self, local: Local) -> Any:
        """Traces at the start of a run."""
        ...

    def step(self, state: Any, local: Local, dt: float) -> tuple[Synapses | None, Any]:
        """Gradient to be descended, summed over the batch, like `local.synapses`; None if there is none."""
        ...

    def eligibility(self, state: Any, local: Local, examples: Tensor) -> Tensor:
        """What a third factor would meet after this step, of some examples [E]: [E, *weight]. For looking at it.

        Raises:
            ValueError: if this plasticity keeps nothing that waits.
        """
        ...


@runtime_checkable
class Tracking(Protocol):
    """A plasticity some of whose weights follow a statistic of the activity, which is no gradient to be descended."""

    def track(self, state: Any, weight: Tensor) -> Tensor:
        """Weight after a trial that ended in `state`; the same tensor where there is nothing to follow."""
        ...
