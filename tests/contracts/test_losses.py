"""Losses: the score is the derivative, and averages to 0 at the optimum."""

import pytest
import torch

from neurosbd.errors import UsageError
from neurosbd.losses import LOSSES
from neurosbd.losses.targets import BINARY, CLASSES
from neurosbd.testing.losses import example, score_equals_slope
from tests.contracts.tables import every, made


@every(LOSSES)
def test_labels_are_taken_or_refused_with_both_shapes(name: str) -> None:
    loss = made(LOSSES, name)
    output, _ = example(loss, 6)
    if loss.targets in (CLASSES, BINARY) or name == "squared_error":
        score_equals_slope(loss, output, torch.arange(6) % 3)
        return
    with pytest.raises(ValueError, match=r"\[6\].*\[6, \d\]"):
        loss.score(output, torch.arange(6) % 3)


@every(LOSSES)
def test_losses_refuse_other_shapes_with_the_legal_one(name: str) -> None:
    loss = made(LOSSES, name)
    output, _ = example(loss, 5)
    legal = rf"\[5, 2\].*\[5, {output.shape[1]}\]"
    for reading in (loss.per_example, loss.score):
        with pytest.raises(UsageError, match=legal):
            reading(output, torch.rand(5, 2))
