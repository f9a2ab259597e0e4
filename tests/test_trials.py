"""One's own loop: what trial, learner and simulation are given is checked at their door; what is forgotten is said."""

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from neurosbd.errors import UsageError, UsageWarning
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Network
from neurosbd.neuromodulators import Forgetting
from neurosbd.neurons import LIF
from neurosbd.rules import RULES
from tests.compositions import rule_of
from tests.spiking import layered

LABELS = torch.tensor([0, 1, 2, 0])


def build(neuron: str = "relu", readout: str = "identity") -> Network:
    """3 - 6 - 3 units."""
    from neurosbd.connections import Dense
    from neurosbd.network.network import Connection, Population
    from neurosbd.neurons import NEURONS

    populations = [
        Population("input", (3,), None), Population("hidden", (6,), NEURONS[neuron]()),
        Population("output", (3,), NEURONS[readout]()),
    ]  # fmt: skip
    connections = [Connection("input", "hidden", Dense(bias=True)), Connection("hidden", "output", Dense())]
    return Network(populations, connections, torch.Generator().manual_seed(0))


def learner(network: Network, rule: str = "sbd", **constants: Any) -> Learner:
    return Learner(
        network,
        rule_of(rule, **constants) if constants else RULES[rule](),
        LOSSES["cross_entropy"](),
        torch.Generator().manual_seed(0),
    )


def gradients(network: Network, trial: Batch, rule: str = "sbd") -> list[Tensor]:
    learner(network, rule).learn(trial)
    found = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    return found


@pytest.mark.parametrize("rule", ["sbd", "bptt", "eprop"])
def test_weights_are_those_of_the_mean_over_the_steps_unless_given(rule: str) -> None:
    """Must fail when only the first step is scored (tried)."""
    network, x = build("lif", "li"), torch.rand(5, 4, 3)
    assert Batch(x, LABELS).weights == (0.2,) * 5
    for one, other in zip(
        gradients(network, Batch(x, LABELS), rule), gradients(network, Batch(x, LABELS, [0.2] * 5), rule), strict=True
    ):
        assert torch.equal(one, other) and one.isfinite().all()
    assert Batch(list(x), LABELS).weights == (0.2,) * 5 and Batch(x[:1], LABELS).weights == (1.0,)


X = torch.rand(5, 4, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": [0.1] * 6}, "6 weights for 5 steps; give one per step, or none for their mean"),
        ({"weights": [0.1] * 4}, "4 weights for 5 steps"),
        ({"weights": [0.5, 0.5, math.nan, 0, 0]}, "must be numbers >= 0"),
        ({"weights": [1.0, -1.0, 0, 0, 0]}, "must be numbers >= 0"),
        ({"weights": ["a"] * 5}, "weights must be numbers"),
        ({"weights": 0.2}, "weights must be numbers, one per step, got 0.2"),
        ({"inputs": X.numpy()}, r"inputs must be a tensor, got ndarray; make it one with torch.as_tensor\(inputs\)"),
        ({"inputs": "spikes"}, "inputs must be a tensor, got str"),
        ({"inputs": X[:0]}, "no step"),
        ({"inputs": torch.tensor(1.0)}, r"inputs are \[\]; give \[T, B, \*input size\]"),
        (
            {"inputs": X.transpose(0, 1)},
            r"\[T, B, \*size\] is 5, but there are 4 targets; .*x.transpose\(0, 1\)",
        ),
        (
            {"inputs": torch.ones(4, 3)},
            r"is 3, but there are 4 targets; it has no axis of steps: x\[None\]",
        ),
        ({"inputs": iter(X)}, "give weights, one per step"),
        ({"target": LABELS.numpy()}, r"target must be a tensor, got ndarray.*torch.as_tensor\(target\)"),
        ({"target": [0, 1, 2, 0]}, "target must be a tensor, got list"),
        ({"target": LABELS[:3]}, "there are 3 targets"),
        ({"target": torch.ones(4, 4, 3)}, r"target is \[4, 4, 3\].*T = 5"),
        ({"target": torch.tensor(1)}, r"target is \[\]"),
        ({"task": torch.zeros(3, dtype=torch.long)}, r"task is \[3\]; give an integer per example, \[4\]"),
        ({"task": [0, 0, 0, 0]}, "task must be a tensor"),
        ({"reward": torch.ones(4)}, r"reward must be a function \(step, frame\)"),
    ],
)
def test_a_trial_says_what_does_not_belong_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Batch(**{"inputs": X, "target": LABELS, **options})


def test_no_examples_and_drives_that_are_no_numbers_are_a_sentence() -> None:
    """Must fail when drives are not looked at: spiking units swallow NaN (tried)."""
    with pytest.raises(UsageError, match="a batch of no examples has no loss"):
        Batch(torch.ones(5, 0, 3), LABELS[:0])
    drives = {"output": torch.full((5, 4, 3), math.nan)}
    with pytest.raises(UsageError, match="60 of 60 values of the drive of 'output' are NaN"):
        unroll(build("lif", "li"), X, drives=drives)
    with pytest.raises(UsageError, match="60 of 60 values of the drive of 'output' are NaN"):
        learner(build("lif", "li")).learn(Batch(X, LABELS, drives=drives))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.ones(5, 4, 2), r"inputs are \[5, 4, 2\], but must be \[T, B, 3\]$"),
        (torch.ones(5, 4, 3, 1), r"\[5, 4, 3, 1\], but must be \[T, B, 3\]; x.reshape\(5, 4, 3\)"),
        (torch.ones(5, 4, 3).double(), r"torch.float64, but the weights are torch.float32; use x.to\(torch.float32\)"),
        (torch.ones(5, 4, 3, dtype=torch.long), "torch.int64, but the weights are torch.float32"),
        (
            torch.ones(5, 4, 3).index_fill_(0, torch.tensor([2]), math.nan),
            "12 of 60 input values.* the first at step 2",
        ),
        (torch.ones(5, 4, 3).index_fill_(2, torch.tensor([1]), math.inf), "20 of 60 input values.* first at step 0"),
        ([torch.ones(4, 2)] * 5, r"inputs are \[4, 2\], but must be \[B, 3\]"),
        ([np.zeros((4, 3))] * 5, r"inputs must be a tensor \[B, 3\], got ndarray"),
    ],
)
@pytest.mark.parametrize("rule", ["sbd", "bptt"])
def test_what_a_network_cannot_be_shown_is_a_sentence(rule: str, inputs: Any, message: str) -> None:
    """NaN, too, which spiking units would swallow: a potential of NaN is below every threshold."""
    network = build("lif", "li")
    with pytest.raises(UsageError, match=message):
        learner(network, rule).learn(Batch(inputs, LABELS))
    with pytest.raises(UsageError, match=message):
        unroll(network, inputs)


def test_a_simulation_takes_no_array_and_no_nothing() -> None:
    for inputs, message in (
        (X.numpy(), "got ndarray"),
        (None, "got NoneType"),
        (torch.tensor(1.0), r"inputs are \[\], but must be \[T, B, 3\]"),
        (X[0], r"lacks the axis of steps: x\[None\]"),
        (X[0, 0], r"lacks the axis of steps and of a batch: x\[None, None\]"),
    ):
        with pytest.raises(UsageError, match=message):
            unroll(build(), inputs)  # type: ignore[arg-type]


@pytest.mark.parametrize(("steps", "message"), [(6, "go on after 5 steps"), (4, "ended after 4 steps")])
def test_inputs_that_do_not_know_their_number_are_counted(steps: int, message: str) -> None:
    def stream() -> Iterator[Tensor]:
        yield from torch.rand(steps, 4, 3)

    with pytest.raises(UsageError, match=f"there are 5 weights, but the inputs {message}"):
        learner(build("lif", "li")).learn(Batch(stream(), LABELS, [0.2] * 5))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (LABELS.float(), r"target has shape \[4\] \(torch.float32\).*give integer labels"),
        (torch.tensor([0, 1, 2, 3]), "labels go from 0 to 3, but the output has 3 classes"),
        (torch.ones(4, 2), r"target has shape \[4, 2\]"),
    ],
)
def test_targets_that_the_loss_cannot_take_are_a_sentence(target: Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        learner(build()).learn(Batch(X[:1], target))


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (torch.tensor([1.0, math.nan, 0, 0]), "1 of 4 rewards are NaN or infinite"),
        ([1.0, 0.0, 0.0, 0.0], "a reward must be a tensor"),
        (np.ones(4), "a reward must be a tensor"),
        (torch.ones(4, 6), r"one value per example, \[batch\] = \[4\], got \[4, 6\]"),
    ],
)
def test_rewards_are_checked_where_they_arrive(reward: Any, message: str) -> None:
    network = build("lif", "li")
    with pytest.raises(ValueError, match=message):
        learner(network, "rstdp").learn(Batch(X, LABELS, reward=lambda t, frame: reward if t == 4 else None))


def test_rewards_of_another_type_are_the_same_rewards() -> None:
    network = build("lif", "li")
    won = torch.tensor([True, False, True, True])
    found = []
    for reward in (won, won.long(), won.float(), won.double()):
        trial = Batch(10 * X, LABELS, reward=lambda t, frame, reward=reward: reward if t == 4 else None)
        found.append(gradients(network, trial, "rstdp"))
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_a_rewarded_trial_without_a_reward_needs_labels() -> None:
    with pytest.raises(UsageError, match=r"rewards the right class.*integer labels \[B\].*torch.float32 \[4, 3\]"):
        learner(build("lif", "li"), "rstdp").learn(Batch(X, torch.rand(4, 3)))


# What a loop forgets ------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("as_given", [lambda x: x, list, iter], ids=["tensor", "list", "iterator"])
def test_spikes_kept_as_bool_are_learned_from_as_numbers(as_given: Any, block: int) -> None:
    """Bit for bit, under every way to hand them over. Must fail when what is not the first frame stays bool (tried)."""
    spikes, labels = torch.rand(7, 4, 4, generator=torch.Generator().manual_seed(3)) < 0.5, torch.tensor([0, 1, 2, 0])
    found = []
    for shown in (spikes.double(), spikes):
        torch.manual_seed(0)
        network = layered(LIF())
        network.block = block
        result = learner(network).learn(Batch(as_given(shown), labels, (1 / 7,) * 7))
        found.append([result.output, *(p.grad for p in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True)) and found[0][1].abs().sum() > 0


def loop(network: Network, teacher: Learner, settle: bool, steps: int = 3, progress: bool = True) -> None:
    optimizer = torch.optim.SGD(network.parameters(), 0.1, fused=True)
    for step in range(steps):
        optimizer.zero_grad()
        teacher.progress = step / steps if progress else 0.0
        teacher.learn(Batch(torch.rand(1, 4, 3), LABELS))
        optimizer.step()
        if settle:
            teacher.after_step()


@pytest.mark.parametrize("rule", ["sbd", "bp"])
def test_a_loop_that_never_settles_is_told_once(rule: str) -> None:
    """Of standardised units; at the second trial, or, where there was one trial only, when they are evaluated. Must
    fail when nobody looks at the version of the weights (tried)."""
    network = build("standardised")
    with pytest.warns(
        UsageWarning, match=r"no after_step\(\) followed.*call learner.after_step\(\) after every optimizer.step"
    ):
        loop(network, learner(network, rule), settle=False)
    network = build("standardised")
    loop(network, learner(network, rule), settle=False, steps=1)
    with pytest.warns(UsageWarning, match=r"followed the last batch, so that 'hidden' act on moments of before"):
        network.eval()
    network.train().eval()  # warned once
    network = build("standardised")
    loop(network, learner(network, rule), settle=True)
    network.eval()


def test_gradients_may_be_gathered_over_trials() -> None:
    """As long as the weights stay, nothing waits to be settled."""
    network = build("standardised")
    teacher = learner(network)
    with warnings.catch_warnings(record=True) as said:
        for _ in range(3):
            teacher.learn(Batch(torch.rand(1, 4, 3), LABELS))
        teacher.after_step()
    assert not said


def test_rules_with_nothing_to_settle_need_not() -> None:
    network = build()
    with warnings.catch_warnings(record=True) as said:
        loop(network, learner(network), settle=False)
    assert not said


def test_bounds_that_are_not_kept_are_said() -> None:
    network = build("lif", "li")
    with pytest.warns(UsageWarning, match="no after_step"):
        loop(network, learner(network, "stdp"), settle=False)


def test_progress_that_stays_at_0_is_said_where_something_follows_it() -> None:
    """Once. Must fail for a constant factor (checked)."""
    scheduled: dict[str, Any] = {"forgetting": Forgetting(0.9, 0.99, "linear")}
    network = build()
    with pytest.warns(UsageWarning, match=r"still 0 after 10 steps, so the schedules of forgetting stay.*done / all"):
        loop(network, learner(network, **scheduled), settle=True, steps=25, progress=False)
    loop(network, learner(network, **scheduled), settle=True, steps=25)
    loop(network, learner(network), settle=True, steps=25, progress=False)


@pytest.mark.parametrize(
    ("rule", "loss", "seed", "message"),
    [
        ("sbd", "made", None, r"rule must be made from an entry of RULES.*got 'sbd'"),
        (RULES["sbd"], "made", None, r"rule must be made from an entry of RULES.*got <function"),
        (RULES["sbd"](), "cross_entropy", None, r"loss must be made from an entry of LOSSES.*got 'cross_entropy'"),
        (RULES["sbd"](), LOSSES["cross_entropy"], None, "loss must be made from an entry.*got <class"),
        (RULES["bp"](), LOSSES["cross_entropy"], None, "loss must be made from an entry.*got <class"),
        (RULES["sbd"](), lambda output, target: output, None, r"from_function\(\.\.\.\), got <function"),
        (RULES["sbd"](), "made", 0, r"generator must be a torch.Generator, got 0.*manual_seed\(seed\)"),
    ],
)
def test_a_learner_is_made_of_what_was_made(rule: Any, loss: Any, seed: Any, message: str) -> None:
    loss = LOSSES["cross_entropy"]() if loss == "made" else loss
    with pytest.raises(ValueError, match=message):
        Learner(build(), rule, loss, torch.Generator() if seed is None else seed)
    with pytest.raises(UsageError, match=r"network must be a neurosbd\.Network"):
        Learner(torch.nn.Linear(3, 3), RULES["sbd"](), LOSSES["cross_entropy"](), torch.Generator())  # type: ignore


def test_what_is_no_batch_is_refused_at_the_door() -> None:
    with pytest.raises(UsageError, match=r"learn takes a batch, got tuple; make one: neurosbd.Batch"):
        learner(build()).learn((torch.zeros(1, 2, 3), torch.zeros(2)))  # type: ignore[arg-type]
