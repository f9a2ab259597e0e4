"""What every loss keeps: its score is its derivative, and averages to 0 at the optimum."""

import torch
from torch import Tensor

from neurosbd.losses import Described
from neurosbd.losses.admissibility import admissible
from neurosbd.losses.targets import CLASSES
from neurosbd.testing.judging import Check, Make, close, demand, identical, no_values, refusal, seeded


def example(loss: Described, count: int, values: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random outputs [count, parameters x values] and legal targets beside them, float64 or labels."""
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(count, loss.parameters * values, dtype=torch.float64, generator=generator)
    support = loss.targets.support(values, generator)
    return output, support[torch.randint(len(support), (count,), generator=generator)]


def slope(loss: Described, output: Tensor, target: Tensor) -> Tensor:
    """d loss / d output by autograd."""
    with torch.enable_grad():
        leaf = output.detach().requires_grad_()
        (exact,) = torch.autograd.grad(loss.per_example(leaf, target).sum(), leaf)
    return exact


def differences(loss: Described, output: Tensor, target: Tensor, step: float = 1e-6) -> Tensor:
    """The same by central differences, every output of every example."""
    moves = step * torch.eye(output.shape[1], dtype=output.dtype)
    rises = [loss.per_example(output + move, target) - loss.per_example(output - move, target) for move in moves]
    return torch.stack(rises, 1) / (2 * step)


def score_is_the_derivative(make: Make) -> None:
    """Oracles: autograd and finite differences. Must fail when the score is divided by B (tried)."""
    loss = make()
    output, target = example(loss, 6)
    score_equals_slope(loss, output, target)
    if loss.targets is CLASSES:
        score_equals_slope(loss, output, torch.rand(6, 3, dtype=torch.float64, generator=seeded()))


def score_equals_slope(loss: Described, output: Tensor, target: Tensor) -> None:
    """For these outputs and targets."""
    with torch.no_grad():
        score = loss.score(output, target)
        close(score, slope(loss, output, target), "The score is not the derivative of the loss by autograd")
        close(score, differences(loss, output, target), "The score is not the slope of the loss", 1e-6, 1e-8)


def loss_is_pure(make: Make) -> None:
    """Per example, writes nothing in place, keeps the dtype; where it draws targets, they are legal."""
    for dtype in (torch.float32, torch.float64):
        _loss_is_pure(make, dtype)


def _loss_is_pure(make: Make, dtype: torch.dtype) -> None:
    loss = make()
    output, target = example(loss, 5)
    output = output.to(dtype)
    copies = output.clone(), target.clone()
    value, score = loss.per_example(output, target), loss.score(output, target)
    identical(output, copies[0], "The loss changes the output that it was given")
    identical(target, copies[1], "The loss changes the target that it was given")
    demand(value.shape == (5,), f"`per_example` of 5 examples has shape {list(value.shape)}, not [5]")
    demand(score.shape == output.shape, f"The score has shape {list(score.shape)}, not that of the output")
    demand(value.dtype == score.dtype == dtype, f"Loss and score must stay {dtype}")
    tolerance = 1e-5 if dtype == torch.float32 else 1e-7
    for function, there in ((loss.per_example, value), (loss.score, score)):
        alone = function(output[3:4], target[3:4])
        close(alone, there[3:4], "An example alone has another loss or score than in a batch", tolerance, tolerance)
    if hasattr(loss, "sample"):
        samples = loss.sample(output, seeded())
        demand(
            samples.dtype == (torch.long if loss.targets is CLASSES else dtype), "Sampled targets have a wrong dtype"
        )
        demand(loss.score(output, samples).shape == output.shape, "The loss does not take the targets that it samples")
        identical(samples, loss.sample(output, seeded()), "Two samples of the same generator differ")


def loss_looks_at_no_value(make: Make) -> None:
    """So a step never waits for the device. Tensors without data tell: must fail when values are checked (tried)."""
    loss = make()
    output, target = (tensor.to("meta") for tensor in example(loss, 5))
    with no_values("loss"):
        value, score = loss.per_example(output, target), loss.score(output, target)
    demand(value.device.type == score.device.type == "meta", "Loss and score must stay on the device of the output")
    demand(score.shape == output.shape, "The score must have the shape of the output")


def other_shapes_are_refused(make: Make) -> None:
    """A target [5, 2] for outputs of 3 values must not be stretched without a word."""
    loss = make()
    output, _ = example(loss, 5)
    for function in (loss.per_example, loss.score):
        with refusal("The loss takes a target [5, 2] where 3 values are to be predicted; it must raise an exception"):
            function(output, torch.rand(5, 2))


def loss_is_admissible(make: Make) -> None:
    """The score averages to 0 at the minimiser, over random conditional distributions of legal targets."""
    verdict = admissible(make())
    demand(verdict, f"The loss is not admissible: {verdict.message}")
    demand(verdict.minimiser == "interior", f"The optimum of the loss is {verdict.minimiser}: {verdict.message}")


LOSS_CHECKS: tuple[Check, ...] = (
    score_is_the_derivative, loss_is_pure, loss_looks_at_no_value, other_shapes_are_refused, loss_is_admissible,
)  # fmt: skip


def check_loss(make: Make) -> None:
    """Everything that the contract of a loss promises; see `check_neuron`."""
    for check in LOSS_CHECKS:
        check(make)
