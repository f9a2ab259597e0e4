"""e-prop in recurrent networks against networks unrolled by hand: the oracles E1 and E2, in float64."""

from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.connections import Dense
from neurosbd.filters import decay
from neurosbd.learning.batch import Batch
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neuromodulators import Transposed
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.neurons import ALIF, LI, LIF
from neurosbd.neurons.neuron import Neuron
from neurosbd.plasticity import ThreeFactor
from neurosbd.rules import RULES, LocalRule
from tests.spiking import DT, differ, learned, lively, same, trial
from tests.test_eligibility import Counted

TAU_OUT = 8e-3
NEURON_CASES = {
    "lif": LIF(15e-3, 0.8),
    "alif": ALIF(15e-3, 40e-3, beta=0.6, v_threshold=0.8),
    "alif-to_value": ALIF(15e-3, 40e-3, beta=0.6, reset="to_value", v_reset=0.1),
}
every_neuron = pytest.mark.parametrize("neuron", NEURON_CASES.values(), ids=list(NEURON_CASES))


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def reservoir(neuron: Neuron) -> Network:
    """4 inputs, 7 units that excite and inhibit each other without autapses, 3 outputs."""
    populations = [
        Population("input", (4,), None),
        Population("hidden", (7,), neuron),
        Population("output", (3,), LI(TAU_OUT)),
    ]
    connections = [
        Connection("input", "hidden", Dense(bias=True)),
        Connection("hidden", "hidden", Dense(autapses=False)),
        Connection("hidden", "output", Dense(bias=True)),
    ]
    return Network(populations, connections, torch.Generator().manual_seed(0), DT).double()


class _Spike(torch.autograd.Function):
    """A step whose derivative is a triangle, written again by hand."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(distance)
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (distance,) = ctx.saved_tensors
        return grad * 0.3 * (1 - distance.abs()).clamp(min=0)


class Unrolled(NamedTuple):
    loss: Tensor
    sent: list[Tensor]  # spikes as other units hear them, one per step, with their gradients


def unrolled(network: Network, task: Batch, heard_graph: bool, reset_graph: bool = False) -> Unrolled:
    """The equations of e-prop's paper once more, as a loop.

    Args:
        network: gives constants and weights.
        task: inputs, targets, weights of the steps.
        heard_graph: whether the loss is differentiated through recurrent spikes.
        reset_graph: whether it is differentiated through resets.
    """
    n: Any = network.populations["hidden"].neuron
    w, b = network.weights, network.biases
    alpha, kappa = decay(n.tau_mem, DT), decay(TAU_OUT, DT)
    beta, rho = (n.beta, decay(n.tau_adapt, DT)) if hasattr(n, "beta") else (0.0, 0.0)
    zero = torch.zeros(task.inputs.shape[1], 7, dtype=torch.float64)  # type: ignore[union-attr]
    v, a, z, y, loss, sent = zero, zero, zero, zero[:, :3], zero.sum(), [zero]
    for t, x in enumerate(task.inputs):
        heard = sent[-1] if heard_graph else sent[-1].detach()
        drive = functional.linear(x, w["input->hidden"], b["input->hidden"]) + heard @ w["hidden->hidden"].t()
        reset = z if reset_graph else z.detach()
        if n.reset == "subtract":
            v = alpha * v + drive - n.v_threshold * reset
        else:
            v = alpha * (v * (1 - reset) + n.v_reset * reset) + drive
        a = rho * a + z
        z = _Spike.apply((v - n.v_threshold - beta * a) / (n.v_threshold - n.v_reset))
        sent.append(z * 1.0)  # another node than the neuron's own memory of its spike
        if sent[-1].requires_grad:
            sent[-1].retain_grad()
        y = kappa * y + functional.linear(sent[-1], w["hidden->output"], b["hidden->output"])
        loss = loss + task.weights[t] * functional.cross_entropy(y, task.target)
    return Unrolled(loss, sent[1:])


def by_hand(network: Network, task: Batch, **options: bool) -> dict[str, Tensor]:
    network.zero_grad()
    unrolled(network, task, **options).loss.backward()
    for connection in network.connections.values():
        present, weight = network.present(connection), network.weights[connection.name]
        if present is not None:
            weight.grad.mul_(present)  # type: ignore[union-attr]
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


class _Played:
    """A neuromodulator that gives out signals known beforehand."""

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = False
    steady: ClassVar[bool] = False

    def __init__(self, signals: list[Tensor]) -> None:
        self.signals = signals

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Counted:
        return Counted(torch.zeros((), dtype=torch.int64))

    def statistics(self, state: Counted, receiver: Receiver, broadcast: Broadcast) -> tuple[()]:
        return ()

    def update(self, state: Counted, sums: tuple[Tensor, ...], broadcast: Broadcast) -> Counted:
        return Counted(state.steps + 1)

    def third_factor(self, state: Counted, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        return self.signals[int(state.steps) - 1]

    def projection(self, state: Counted) -> None:
        return None


@every_neuron
def test_total_derivative_times_eligibility_is_backprop_through_time(neuron: Neuron) -> None:
    """E1: dE/dW = sum_t (dE/dz[t]) e[t], dE/dz through all other units and all later steps.

    Must fail when z[t] is used for z[t-1] in the recurrent trace (tried), or psi differs (tried).
    """
    network = reservoir(neuron)
    task = trial(lively(network))
    network.zero_grad()
    run = unrolled(network, task, heard_graph=True)
    run.loss.backward()
    totals = [s.grad / w for s, w in zip(run.sent, task.weights, strict=True)]  # type: ignore[operator]
    exact = by_hand(network, task, heard_graph=True)
    local = learned(network, LocalRule(ThreeFactor(), _Played(totals), eligibility="exact"), task)
    same(local, exact)


@every_neuron
def test_eprop_is_exact_where_recurrent_spikes_are_not_differentiated(neuron: Neuron) -> None:
    """E2: symmetric e-prop is the gradient through each unit's own state and the readout, and through no other unit.

    Must fail when the reset is differentiated, or the spikes of others are (both checked).
    """
    network = reservoir(neuron)
    task = trial(lively(network))
    local = learned(network, RULES["eprop"](neuromodulator=Transposed()), task)
    same(local, by_hand(network, task, heard_graph=False))
    assert not network.weights["hidden->hidden"].diagonal().any()
    assert not local["weights.hidden->hidden"].diagonal().any()
    assert differ(local, by_hand(network, task, heard_graph=False, reset_graph=True)) > 1e-3
    assert differ(local, by_hand(network, task, heard_graph=True)) > 1e-3


@every_neuron
def test_the_package_unrolls_as_the_hand_does(neuron: Neuron) -> None:
    """The rule bptt is backprop through everything but resets."""
    network = reservoir(neuron)
    task = trial(lively(network))
    same(learned(network, RULES["bptt"](), task), by_hand(network, task, heard_graph=True))
