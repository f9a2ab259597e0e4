"""Loss and measures of an epoch, summed up batch by batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.measures import Measure


class MetricSums:
    """Running sums of an epoch, on the device: no synchronisation until they are read.

    Args:
        measures: what is asked for besides the loss.
        values: to predict, per example.
        device: where the sums are.
        heads: of the network, which are judged as the readout is.
    """

    def __init__(
        self, measures: Sequence[Measure], values: int, device: torch.device, heads: Sequence[str] = ()
    ) -> None:
        self.measures = measures
        self.before = ["", *(f"{head}." for head in heads)]  # of the names: the readout, then the heads
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

    def read(self) -> dict[str, float]:
        """Mean loss and every measure so far, by name; of a head 'HEAD.loss'."""
        found = {}
        for before, judged in zip(self.before, self.sums.cpu().split(sum(self.widths)), strict=True):
            (loss, count), *sums = (part.tolist() for part in judged.split(self.widths))
            found[f"{before}loss"] = loss / count if count else float("nan")
            found |= {f"{before}{m.name}": m.value(part) for m, part in zip(self.measures, sums, strict=True)}
        return found
