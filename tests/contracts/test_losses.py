"""Losses: the score is the derivative, and averages to 0 at the optimum."""

import pytest
import torch

from neurosbd.errors import UsageError
from neurosbd.losses import LOSSES
from neurosbd.losses.admissibility import admissible
from neurosbd.losses.targets import BINARY, CLASSES
from tests.contracts.tables import every, made, seeded
from tests.targets import differences, example, slope


@every(LOSSES)
@pytest.mark.parametrize("form", ["as they come", "vectors", "labels"])
def test_score_is_the_derivative_of_the_loss(name: str, form: str) -> None:
    """A8 (1). Oracles: autograd and finite differences. Must fail when the score is divided by B (tried)."""
    loss = made(LOSSES, name)
    output, target = example(loss, 6)
    if form == "labels":
        if loss.targets not in (CLASSES, BINARY) and name != "squared_error":
            with pytest.raises(ValueError, match=r"\[6\].*\[6, \d\]"):
                loss.score(output, torch.arange(6) % 3)
            return
        target = torch.arange(6) % 3
    if form == "vectors" and loss.targets is CLASSES:
        target = torch.rand(6, 3, dtype=torch.float64)
    with torch.no_grad():
        score = loss.score(output, target)
        torch.testing.assert_close(score, slope(loss, output, target), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(score, differences(loss, output, target), rtol=1e-6, atol=1e-8)


@every(LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_are_per_example_pure_and_keep_the_dtype(name: str, dtype: torch.dtype) -> None:
    loss = made(LOSSES, name)
    output, target = example(loss, 5)
    output = output.to(dtype)
    kept = output.clone(), target.clone()
    value, score = loss.per_example(output, target), loss.score(output, target)
    drawn = loss.sample(output, seeded())
    assert torch.equal(output, kept[0]) and torch.equal(target, kept[1])
    assert value.shape == (5,) and score.shape == output.shape and value.dtype == score.dtype == dtype
    assert value.device == score.device == output.device == drawn.device
    torch.testing.assert_close(loss.per_example(output[3:4], target[3:4]), value[3:4])
    torch.testing.assert_close(loss.score(output[3:4], target[3:4]), score[3:4])
    assert drawn.dtype == (torch.long if loss.targets is CLASSES else dtype)
    assert loss.score(output, drawn).shape == output.shape  # legal targets
    assert torch.equal(drawn, loss.sample(output, seeded()))


@every(LOSSES)
def test_losses_look_at_no_value_on_an_accelerator(name: str) -> None:
    """So a step never waits for the device. Tensors without data tell: must fail when values are checked (tried)."""
    loss = made(LOSSES, name)
    output, target = (tensor.to("meta") for tensor in example(loss, 5))
    assert loss.per_example(output, target).device.type == loss.score(output, target).device.type == "meta"
    assert loss.score(output, target).shape == output.shape


@every(LOSSES)
def test_losses_refuse_other_shapes(name: str) -> None:
    loss = made(LOSSES, name)
    output, _ = example(loss, 5)
    legal = rf"\[5, 2\].*\[5, {output.shape[1]}\]"
    for reading in (loss.per_example, loss.score):
        with pytest.raises(UsageError, match=legal):
            reading(output, torch.rand(5, 2))


@every(LOSSES)
def test_every_loss_is_admissible(name: str) -> None:
    """The score averages to 0 at the minimiser, over random conditional distributions of legal targets."""
    found = admissible(name)
    assert found and found.minimiser == "interior", found.message
