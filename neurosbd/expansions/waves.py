"""Waves of the residual, less what the model expects of them: for values and counts."""

from typing import Annotated, cast

import torch
from torch import Tensor

from neurosbd.errors import UsageError
from neurosbd.expansions.expansion import no_statistics
from neurosbd.losses import HasDistribution
from neurosbd.neuromodulators.neuromodulator import Broadcast, unchanged
from neurosbd.schema.constants import Legal, NotNegative, Positive, constants


@constants
class Waves:
    """Bounded nonlinear functions psi of the residual, less their mean under the model of the loss.

        w = (y - mean(output)) / spread(output)
        column[b, (f, k)] = cos(f w_k) - E_model[cos(f w_k)],  sin(f w_k) - E_model[sin(f w_k)]

    The means are the characteristic function of the model, in closed form. Together all frequencies know everything
    about the distribution: the columns vanish in the mean only if the model is right. For labels every psi(y) is
    linear in the one-hot vector, so psi - E psi is linear in the score and would add nothing: refused.
    D = 2 k frequencies.

    Args:
        frequencies: in radians per standard deviation, > 0. Far below 1 a wave is the score (sin) or its square (cos).
        weight: of the block, when it has been made as loud as the score, >= 0.
    Raises:
        ValueError: if a constant is out of range; at the start, if the loss has no distribution of values or counts.
        UsageError: at the first step, if targets are labels.
    Source: this project's own reading, docs/expansions.md.
    """

    frequencies: Annotated[tuple[Positive, ...], Legal("one frequency or more", bool)] = (1.0, 2.0)
    weight: NotNegative = 1.0

    statistics = no_statistics
    update = unchanged

    def width(self, broadcast: Broadcast) -> int:
        """2 k frequencies."""
        return 2 * len(self.frequencies) * broadcast.score.shape[1] // getattr(broadcast.loss, "parameters", 1)

    def init(self, broadcast: Broadcast, generator: torch.Generator) -> tuple[()]:
        """Nothing of its own."""
        if not isinstance(broadcast.loss, HasDistribution):
            raise ValueError(
                f"the expansion 'waves' wants a loss with a distribution of values or counts, not "
                f"{type(broadcast.loss).__name__}: of labels, or of yes and no, every function is linear in the score "
                f"already"
            )
        return ()

    def columns(self, state: tuple[()], broadcast: Broadcast) -> Tensor:
        """[B, D], frequency by frequency, cosines first."""
        if broadcast.target.ndim == 1:
            raise UsageError("the expansion 'waves' adds nothing for labels: there it is linear in the score")
        distribution = cast(HasDistribution, broadcast.loss).distribution(broadcast.output)
        residual = (broadcast.target.to(distribution.mean) - distribution.mean) / distribution.spread
        columns = []
        for frequency in self.frequencies:
            cosine, sine = distribution.characteristic(frequency)
            columns += [torch.cos(frequency * residual) - cosine, torch.sin(frequency * residual) - sine]
        return torch.cat(columns, 1) / broadcast.examples
