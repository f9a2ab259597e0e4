"""What a loop of one's own forgets, said once."""

from collections.abc import Mapping

from torch import nn

from neurosbd.errors import warn
from neurosbd.network.network import Network


class Reminders:
    """Notices, once each, what a loop of one's own has forgotten: `after_step`, and `progress`.

    Args:
        network: that learns.
        needed: whether the rule itself has something to do in `after_step`, such as bounds of the weights.
        scheduled: what follows the progress of the training, in words; none: nothing.
    """

    PATIENCE = 10  # steps after which a training has made some progress

    def __init__(self, network: Network, needed: bool, scheduled: str | None) -> None:
        self.network = network
        self.needed = needed or bool(network.adaptive) or network.constrained
        self.scheduled = scheduled
        self.steps = 0
        self.heads = True  # whether what they have left is looked at
        self.pending: tuple[int, int] | None = None  # what a trial has left behind, until `after_step`

    def _left(self) -> tuple[int, int]:
        """How often the weights were written, which fused optimizers do not count, and how many gradients wait."""
        weights = list(self.network.weights.values())
        return sum(weight._version for weight in weights), sum(weight.grad is not None for weight in weights)

    def begin(self) -> None:
        """Before a trial: `after_step` was to follow the last one if the weights have moved since, or its gradients are
        gone."""
        if self.needed and self.pending is not None and self.pending != self._left():
            self.needed = False
            warn(
                "the weights have changed since the last batch, which no after_step() followed: bounds, what adaptive "
                "units remember and weights that follow the activity stay behind; call learner.after_step() after "
                "every optimizer.step()",
                stacklevel=4,
            )

    def check_heads(self, heads: Mapping[str, nn.Parameter]) -> None:
        """Before a trial: gradients of heads that are still there when those of the weights are gone were not taken."""
        left = [name for name, head in heads.items() if head.grad is not None]
        if self.heads and left and all(weight.grad is None for weight in self.network.weights.values()):
            self.heads = False
            warn(
                f"the optimizer does not have what the rule learns beside the synapses ({', '.join(left)}): make it of "
                f"[*network.parameters(), *learner.parameters.values()], and clear their gradients before every batch",
                stacklevel=4,
            )

    def due(self) -> None:
        """After a trial."""
        if self.needed:
            self.pending, self.network.moments_pending = self._left(), True

    def done(self, progress: float) -> None:
        """`after_step` has followed the trial."""
        self.pending, self.network.moments_pending, self.steps = None, False, self.steps + 1
        if self.scheduled and self.steps == self.PATIENCE and progress == 0:
            warn(
                f"learner.progress is still 0 after {self.steps} steps, so {self.scheduled} stay where they start; set "
                f"learner.progress = done / all before every learner.learn(...)",
                stacklevel=4,
            )
