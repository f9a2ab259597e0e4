"""What every way to read an answer keeps: [B, C] of each example by itself, nothing changed."""

import torch
from torch import Tensor

from neurosbd.testing.judging import Check, Make, close, demand, identical, seeded

STEPS = 6


def _spikes() -> Tensor:
    """[T, B, C]."""
    return (torch.rand(STEPS, 4, 3, generator=seeded(), dtype=torch.float64) < 0.4).double()


def _read(make: Make, outputs: Tensor, weights: tuple[float, ...]) -> Tensor:
    answer = make()
    state = answer.init(outputs[0])
    for t, (output, weight) in enumerate(zip(outputs, weights, strict=True)):
        if weight:
            state = answer.step(state, output, t, weight)
    return answer.value(state)


def answers_are_finite_and_change_no_output(make: Make) -> None:
    """One for every output of every example, of their type."""
    outputs = _spikes()
    kept = outputs.clone()
    answer = _read(make, outputs, (1 / STEPS,) * STEPS)
    demand(answer.shape == outputs.shape[1:], f"The answer has shape {list(answer.shape)}, the output {[4, 3]}")
    demand(answer.dtype == outputs.dtype, f"The answer is {answer.dtype}, the output {outputs.dtype}")
    demand(bool(answer.isfinite().all()), "The answer is not finite")
    identical(outputs, kept, "Reading changes the output that it was given")


def examples_are_read_by_themselves(make: Make) -> None:
    """Must fail when a mean is taken over the batch (tried)."""
    outputs, weights = _spikes(), (1 / STEPS,) * STEPS
    alone = torch.cat([_read(make, outputs[:, b : b + 1], weights) for b in range(outputs.shape[1])])
    close(_read(make, outputs, weights), alone, "The answer of an example depends on the others", 1e-12, 1e-12)


def what_is_the_same_at_every_step_keeps_its_units(make: Make) -> None:
    """Of an answer that says so. Must fail when a mean is no mean (tried)."""
    if make().keeps_units:
        steady = torch.tensor([[0.5, -2.0, 3.0]], dtype=torch.float64).expand(STEPS, 1, 3)
        weights = (0.0, 0.0, 0.1, 0.2, 0.3, 0.4)
        sentence = "`keeps_units` is True, but of a steady output the answer is another value"
        close(_read(make, steady, weights), steady[0], sentence, 1e-12, 1e-12)


ANSWER_CHECKS: tuple[Check, ...] = (
    answers_are_finite_and_change_no_output, examples_are_read_by_themselves,
    what_is_the_same_at_every_step_keeps_its_units,
)  # fmt: skip


def check_answer(make: Make) -> None:
    """Everything that the contract of a way to read an answer promises; see `check_neuron`."""
    for check in ANSWER_CHECKS:
        check(make)
