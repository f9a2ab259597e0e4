"""What every rule keeps: it fills `.grad`, changes nothing else, and learns."""

import copy
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Frame, Network
from neurosbd.testing.judging import Check, Make, close, demand, drawn, identical, seeded
from neurosbd.testing.networks import cnn, lc, mlp

Gradients = dict[str, Tensor]
SETTLING = 20  # steps of networks with compartments


def gradients(make: Make, network: Network, target: Tensor, x: Tensor) -> Gradients:
    """What one batch adds to `.grad` of every weight; the learner is a new one."""
    rule = make()
    loss = LOSSES[rule.loss or "cross_entropy"]()
    Learner(network, rule, loss, seeded(3)).learn(_batch(network, x, target), noise=seeded(4))
    return {name: weight.grad.clone() for name, weight in network.weights.items() if weight.grad is not None}


def _batch(network: Network, x: Tensor, target: Tensor) -> Batch:
    """Examples [B, *input size] that stand still, for as long as the network needs to settle."""
    steps = SETTLING if network.compartmental else 1
    return Batch(x.expand(steps, *x.shape), target, (0.0,) * (steps - 1) + (1.0,))


def _labels(count: int) -> Tensor:
    return torch.randint(0, 3, (count,), generator=seeded(1))


def _neuron(make: Make) -> str:
    """A neuron that the rule can teach: one that draws its spikes, if it wants such."""
    for neuron in ("tanh", "escape", "ct_relu", "first_spike", "corinfomax"):
        try:
            Learner(mlp([5, 7, 3], neuron), make(), LOSSES[make().loss or "cross_entropy"](), seeded())
        except ValueError as problem:
            reason = problem
        else:
            return neuron
    raise AssertionError(
        f"The rule refuses perceptrons of 'tanh', 'escape', 'ct_relu', 'corinfomax' and of spikes: {reason}"
    )


def grad_of_every_parameter_is_filled(make: Make) -> None:
    """On a perceptron, a convolutional and a locally connected network; a rule may refuse the last two."""
    neuron = _neuron(make)
    networks: tuple[Callable[[], Network], ...] = (lambda: mlp([5, 7, 6, 3], neuron), cnn, lc)
    for build in networks:
        try:
            Learner(build(), make(), LOSSES[make().loss or "cross_entropy"](), seeded())
        except ValueError as problem:
            named = "->" in str(problem) or "population '" in str(problem)
            demand(named, f"The rule refuses a network without naming the connection or population: {problem}")
            continue
        _fills_grad(make, build)


def _fills_grad(make: Make, build: Callable[[], Network]) -> None:
    network = build()
    before = copy.deepcopy(network.state_dict())
    x, target = drawn(9, *network.populations["input"].size), _labels(9)
    original = x.clone()
    grads = gradients(make, network, target, x)
    spared = not make().scored  # such rules may leave biases alone
    for name, parameter in network.named_parameters():
        if parameter.grad is None:
            demand(spared and name.startswith("biases"), f"The rule leaves .grad of '{name}' empty")
            continue
        demand(parameter.grad.shape == parameter.shape, f"The gradient of '{name}' has another shape than '{name}'")
        demand(lies_like(parameter.grad, parameter), f"The gradient of '{name}' lies in another order in memory")
    for key, value in network.state_dict().items():
        identical(value, before[key], f"Learning changes '{key}' of the network; only .grad may change")
    identical(x, original, "Learning changes the input that it was given")
    repeat = gradients(make, build(), target, x)
    for key, gradient in grads.items():
        identical(gradient, repeat[key], f"The same batch and seed give another gradient of '{key}' the second time")


def lies_like(gradient: Tensor, parameter: Tensor) -> bool:
    """Same order in memory: torch's fused optimizers read a gradient without looking at its strides."""
    return all(
        g == p for g, p, size in zip(gradient.stride(), parameter.stride(), gradient.shape, strict=True) if size > 1
    )


def gradients_accumulate_and_spare_absent_synapses(make: Make) -> None:
    """Two batches add up, and what is no synapse never becomes one."""
    network = mlp([5, 8, 3], _neuron(make), sparsity=0.5)
    x, target = drawn(4, 5), _labels(4)
    once = gradients(make, network, target, x)
    for connection in network.connections.values():
        present = network.present(connection)
        assert present is not None
        demand(not once[connection.name][present == 0].any(), f"Absent synapses of '{connection.name}' get a gradient")
    twice = gradients(make, network, target, x)
    for key in once:
        close(twice[key], 2 * once[key], f"A second batch does not add to the gradient of '{key}'", 1e-7, 1e-7)


def silent_inputs_change_nothing(make: Make) -> None:
    """Synapses from silent units keep their weight, unless the rule says that it does not spare them."""
    network, x = mlp([4, 6, 3], _neuron(make)), drawn(5, 4)
    x[:, 1] = 0
    grads = next(iter(gradients(make, network, _labels(5), x).values()))
    spared = not make().spares_silent
    demand(spared or not grads[..., 1].any(), "Synapses from a silent unit get a gradient")
    timed = not make().scored  # in one step no two spikes follow each other
    demand(grads[..., 0].any() or timed, "Synapses from an active unit get no gradient")


def a_small_task_is_learned(make: Make) -> None:
    """Two noisy clusters per class; training accuracy above 95 %, chance is 33 %. Of rules that the loss teaches,
    on units whose rates are not bounded to 0..1 as those are that settle.

    The readout learns ten times faster than the hidden layer, as in every model that ships: at equal rates a quickly
    forgetting projection can fail here where DFA does not.
    """
    rule = make()
    if not rule.scored or _neuron(make) == "corinfomax":
        return
    generator = seeded()
    centres = 3 * torch.randn(6, 8, dtype=torch.float64, generator=generator)
    label = torch.randint(0, 6, (300,), generator=generator)
    x = centres[label] + 0.5 * torch.randn(300, 8, dtype=torch.float64, generator=generator)
    network, target = mlp([8, 32, 3], _neuron(make)), label % 3
    learner = Learner(network, rule, LOSSES[rule.loss or "cross_entropy"](), seeded())
    rate = {"hidden1->output": 10.0}
    groups = [{"params": [p], "lr": 5e-3 * rate.get(n.split(".")[1], 1.0)} for n, p in network.named_parameters()]
    optimizer = torch.optim.Adam([*groups, {"params": list(learner.parameters.values()), "lr": 5e-2}])
    for _ in range(150):
        optimizer.zero_grad()
        learner.learn(_batch(network, x, target))
        optimizer.step()
        learner.after_step()
    accuracy = (learner.answer(_batch(network, x, target)).output.argmax(1) == target).double().mean().item()
    demand(accuracy > 0.95, f"The rule reaches {accuracy:.0%} on two clusters per class, where 95 % are easy")


def examples_count_alike(make: Make) -> None:
    """A batch whose examples come twice, in another order, has the same gradient, since it is a mean over examples. Of
    neurons and rules that draw nothing for each of them."""
    neuron = _neuron(make)
    if make().estimates or neuron == "escape":
        return
    x, target, order = drawn(6, 5), _labels(6), [3, 0, 5, 2, 2, 4, 1, 0, 4, 3, 5, 1]
    once, twice = (gradients(make, mlp([5, 7, 3], neuron), target[rows], x[rows]) for rows in (list(range(6)), order))
    for key, gradient in once.items():
        close(twice[key], gradient, f"The gradient of '{key}' changes when every example comes twice", 1e-8, 1e-10)


def a_score_of_0_changes_nothing(make: Make) -> None:
    """Targets that are the outputs themselves, under squared error. Of rules that hear a score and no target."""
    rule = make()
    if not rule.scored or rule.hears_target or rule.estimates or rule.loss not in (None, "squared_error"):
        return
    network, x = mlp([5, 7, 6, 3], _neuron(make)), drawn(6, 5)
    with torch.no_grad():
        target = network(x)
    Learner(network, rule, LOSSES["squared_error"](), seeded(3)).learn(_batch(network, x, target), noise=seeded(4))
    for name, weight in network.weights.items():
        change = 0.0 if weight.grad is None else weight.grad.abs().max().item()
        demand(
            change < 1e-14,
            f"The score is 0 and '{name}' gets a gradient; declare `hears_target` if the target tells it",
        )


def single_precision_is_kept(make: Make) -> None:
    """In float32 gradients are float32, and those of float64 up to rounding; estimates may be small differences."""
    x, target, neuron = drawn(6, 5), _labels(6), _neuron(make)
    exact = gradients(make, mlp([5, 7, 6, 3], neuron), target, x)
    for key, gradient in gradients(make, mlp([5, 7, 6, 3], neuron).float(), target, x.float()).items():
        demand(gradient.dtype == torch.float32, f"The gradient of '{key}' is {gradient.dtype} in a float32 network")
        if not make().estimates:
            close(gradient.double(), exact[key], f"The gradient of '{key}' is another one in float32", 1e-3, 1e-5)


def what_it_keeps_lies_with_the_network(make: Make) -> None:
    """Numbers that the rule keeps are on the device of the network; whole ones, such as keys, may stay with the host,
    which no step waits for. Of neurons whose constants are no values that would have to move."""
    if _neuron(make) == "ct_relu":
        return
    network, rule = mlp([5, 7, 6, 3], _neuron(make)).to("meta"), make()
    learner = Learner(network, rule, LOSSES[rule.loss or "cross_entropy"](), seeded(3))
    for name, value in _tensors(learner.state_dict()):
        there = not value.is_floating_point() or value.device.type == "meta"
        demand(there, f"'{name}' of the state is on {value.device}, where the network is not; make it like a weight")


def _tensors(saved: object, name: str = "state") -> Iterator[tuple[str, Tensor]]:
    """All that are in nested containers, by where they are."""
    if isinstance(saved, Tensor):
        yield name, saved
    elif isinstance(saved, Mapping):
        for key, value in saved.items():
            yield from _tensors(value, f"{name}.{key}")
    elif isinstance(saved, list | tuple):
        for number, value in enumerate(saved):
            yield from _tensors(value, f"{name}.{number}")


def no_graph_is_built(make: Make) -> None:
    """Autograd does not follow the network while the rule learns, unless it says that it differentiates."""
    network, rule, followed = mlp([5, 7, 3], _neuron(make)), make(), []

    def look(t: int, frame: Frame) -> None:
        followed.append(any(activity.value.grad_fn is not None for activity in frame.activity.values()))

    learner = Learner(network, rule, LOSSES[rule.loss or "cross_entropy"](), seeded(3))
    learner.learn(Batch(drawn(4, 5)[None], _labels(4)), (look,), seeded(4))
    says = rule.differentiates
    demand(says or not any(followed), "Autograd follows what the rule shows; set `differentiates` if it must")
    demand(any(followed) or not says, "The rule says that it differentiates, but autograd follows nothing")


RULE_CHECKS: tuple[Check, ...] = (
    grad_of_every_parameter_is_filled, gradients_accumulate_and_spare_absent_synapses, silent_inputs_change_nothing,
    examples_count_alike, a_score_of_0_changes_nothing, single_precision_is_kept,
    what_it_keeps_lies_with_the_network, no_graph_is_built, a_small_task_is_learned,
)  # fmt: skip


def check_rule(make: Make) -> None:
    """Everything that the contract of a rule promises; see `check_neuron`."""
    for check in RULE_CHECKS:
        check(make)
