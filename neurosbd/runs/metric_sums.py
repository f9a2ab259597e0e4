"""Loss and measures of an epoch, summed up batch by batch."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.measures import Measure
from neurosbd.network.network import Network


class MetricSums:
    """Running sums of an epoch, on the device: no synchronisation until they are read.

    Args:
        measures: what is asked for besides the loss.
        values: to predict, per example.
        device: where the sums are.
        network: whose readout and heads are judged alike.
        unjudged: those of them that are not, since nothing teaches them: they are summed up, so that an infinite loss
            is seen, and not read.
    """

    def __init__(
        self,
        measures: Sequence[Measure],
        values: int,
        device: torch.device,
        network: Network,
        unjudged: Collection[str] = (),
    ) -> None:
        self.measures = measures
        before = {network.readout: "", **{head: f"{head}." for head in network.heads}}  # of the names
        self.before = list(before.values())
        self.judged = [before for name, before in before.items() if name not in unjudged]
        self.widths = [2, *(measure.width(values) for measure in measures)]  # loss and examples, then the measures
        self.sums = torch.zeros(sum(self.widths) * len(self.before), dtype=torch.float64, device=device)

    def add(self, batch: Batch, result: BatchResult) -> None:
        """Count a batch."""
        self.sums += self.of(batch, result)

    def of(self, batch: Batch, result: BatchResult) -> Tensor:
        """The sums of a batch alone; its losses are means over the whole of it."""
        return torch.cat([part for judged in (result, *result.heads.values()) for part in self._of(batch, judged)])

    def _of(self, batch: Batch, result: BatchResult) -> list[Tensor]:
        count, loss = len(result.output), result.loss.double()
        single = torch.stack((loss * batch.examples(count), torch.full_like(loss, count)))
        if not count:  # the share of a rank of which there are more than examples
            return [single, *(single.new_zeros(width) for width in self.widths[1:])]
        return [single, *(measure.sums(batch, result) for measure in self.measures)]

    def names(self, before: str) -> list[str]:
        """Of the loss and the measures of an output."""
        return [f"{before}loss", *(f"{before}{measure.name}" for measure in self.measures)]

    def read(self) -> dict[str, float]:
        """Mean loss and every measure so far, by name; of a head 'HEAD.loss'; nothing of what is not judged."""
        found = {}
        for before, judged in zip(self.before, self.sums.cpu().split(sum(self.widths)), strict=True):
            if before not in self.judged:
                continue
            (loss, count), *sums = (part.tolist() for part in judged.split(self.widths))
            mean = loss / count if count else float("nan")
            values = [m.value(part) for m, part in zip(self.measures, sums, strict=True)]
            found |= dict(zip(self.names(before), (mean, *values), strict=True))
        return found
