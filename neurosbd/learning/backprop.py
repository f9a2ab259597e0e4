"""Backpropagation: the reference that every local rule is measured against."""

from dataclasses import dataclass

import torch

from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Run
from neurosbd.learning.rule import Rule, TensorState


@dataclass(frozen=True)
class Backprop(Rule[TensorState]):
    """Fill the same `.grad` by automatic differentiation through the same network, through time if there is any."""

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """One showing that autograd follows."""
        with torch.enable_grad():
            run.show(batch)
            if run.meter.total is not None:
                run.meter.total.backward()
        return run.result()
