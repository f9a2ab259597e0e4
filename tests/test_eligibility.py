"""Eligibility and e-prop against autograd through time and closed forms, in float64: the oracles E3, E5 and E6."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.distributions import Uniform
from neurosbd.eligibility import Exact, Factorised
from neurosbd.eligibility.factorised import Factors
from neurosbd.eligibility.local import Arrival, Local, Site
from neurosbd.learning.simulation import unroll
from neurosbd.network.network import Frame, Network
from neurosbd.neuromodulators import Transposed
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver
from neurosbd.neurons import ALIF, LI, LIF, NEURONS
from neurosbd.neurons.neuron import Coupled, Neuron
from neurosbd.plasticity import EligibilityPropagation, ThreeFactor
from neurosbd.plasticity.eligibility_propagation import EligibilityTrace
from neurosbd.rules import RULES, LocalRule
from neurosbd.schema.constants import Constant, Potential
from neurosbd.surrogates import Boxcar
from tests.spiking import DT, STEPS, differ, layered, learned, lively, maps, noise, same, trial


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


# e-prop is backprop through time where the theory says so -----------------------------------------


def _around(value: float) -> Uniform:
    return Uniform(*sorted((0.8 * value, 1.2 * value))) if value else Uniform(-0.1, 0.1)


def variants() -> Iterator[Any]:
    """Every neuron as it is, with every reset, with refractoriness, and with constants of each unit.

    Not coupled ones: none of their units has an eligibility of its own, and that they say so is tested.
    """
    for name, build in NEURONS.items():
        if isinstance(build(), Coupled):
            continue
        fields = {f.name: f for f in dataclasses.fields(build()) if f.init}  # type: ignore[arg-type]
        own = {n: _around(getattr(build(), n)) for n, f in fields.items() if f.type in (Constant, Potential)}
        resets = [{"reset": r} for r in ("to_value", "none")] if "reset" in fields else []
        rest = [{"refractory": 2e-3}] if "refractory" in fields else []
        for constants in ({}, *resets, *rest, *([own] if own else [])):
            yield pytest.param(build(**constants), id="-".join((name, *map(str, constants.values()))[:2]))


@pytest.mark.parametrize("neuron", list(variants()))
def test_eprop_of_a_feed_forward_layer_is_backprop_through_time(neuron: Neuron) -> None:
    """E3. Must fail when the reset is differentiated in the reference (tried: no detach in `integrate`)."""
    network = layered(neuron)
    task = trial(lively(network))
    same(learned(network, RULES["eprop"](neuromodulator=Transposed()), task), learned(network, RULES["bptt"](), task))


@pytest.mark.parametrize("delay", [1, 3])
def test_eprop_with_a_delay_is_backprop_through_time(delay: int) -> None:
    """Must fail when the eligibility takes what was sent in place of what arrived (tried)."""
    network = layered(ALIF(beta=0.5), delay=delay)
    task = trial(lively(network))
    same(learned(network, RULES["eprop"](neuromodulator=Transposed()), task), learned(network, RULES["bptt"](), task))


def test_eprop_waits_for_the_readout_only_where_it_has_a_memory() -> None:
    """E6: an identity readout has kappa = 0, so ebar = e; with a leak it is not. Must fail for kappa = 0.5 (tried)."""
    now = LocalRule(ThreeFactor(), Transposed(), eligibility="exact")
    for readout, equal in ((NEURONS["identity"](), True), (LI(8e-3), False)):
        network = layered(LIF(), readout)
        task = trial(lively(network))
        one, two = learned(network, RULES["eprop"](neuromodulator=Transposed()), task), learned(network, now, task)
        assert (differ(one, two) < 1e-12) == equal


def test_a_readout_that_forgets_at_once_keeps_nothing_per_synapse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is that of `ThreeFactor`, without a value per example and synapse. Must fail when what waits for
    nothing is made up all the same (tried: without the branches of kappa 0)."""
    network = layered(NEURONS["tanh"](), NEURONS["identity"]())
    task = trial(lively(network))
    expected = learned(network, LocalRule(ThreeFactor(), Transposed(), eligibility="exact"), task)

    def multiplied(*_: object) -> Synapses:
        raise AssertionError("a value per example and synapse was made")

    for name in ("onto", "each"):
        monkeypatch.setattr(Factors, name, multiplied)
    same(learned(network, RULES["eprop"](neuromodulator=Transposed()), task), expected)


def test_only_scored_steps_count() -> None:
    """A loss at the last two steps only: still the gradient, through ten silent ones."""
    network = layered(LIF())
    inputs = lively(network)
    task = dataclasses.replace(trial(inputs), weights=[0.0] * (STEPS - 2) + [0.25, 0.75])
    same(learned(network, RULES["eprop"](neuromodulator=Transposed()), task), learned(network, RULES["bptt"](), task))


# Factorised and exact ------------------------------------------------------------------------------


def followed(kind: Factorised | Exact, network: Network, inputs: Tensor) -> Tensor:
    """sum_b signal e of the hidden units at every step, bias last, for a signal of random numbers."""
    state: Any = None
    seen = []
    neuron, connection = network.populations["hidden"].neuron, network.connections["input->hidden"]
    synapses = network.synapses(connection)
    assert neuron is not None

    def look(t: int, frame: Frame) -> None:
        nonlocal state
        arrival = Arrival(
            frame.carried[connection.name], neuron, frame.state.neurons["hidden"], frame.activity["hidden"], synapses,
            functools.partial(connection.geometry.outer, synapses),
            functools.partial(connection.geometry.each, synapses),
        )  # fmt: skip
        state = kind.init(arrival, DT) if state is None else state
        eligible, state = kind.step(state, arrival, DT)
        weight, bias = eligible.contract(Given().at(t, arrival.post.value))
        assert bias is not None
        seen.append(torch.cat((weight, bias[:, None]), 1))

    with torch.no_grad():
        unroll(network, inputs, (look,), generator=noise())
    return torch.stack(seen)


@pytest.mark.parametrize("neuron", list(variants()))
def test_factorised_eligibility_is_the_exact_one_where_the_neuron_says_so(neuron: Neuron) -> None:
    """And is not where it does not, if there is one. Must fail when a filter is left out (tried: CubaLIF)."""
    network = layered(neuron)
    inputs = lively(network)
    drawn = network.populations["hidden"].neuron
    assert drawn is not None
    exact = followed(Exact(), network, inputs)
    if drawn.factorises:
        torch.testing.assert_close(followed(Factorised(), network, inputs), exact, rtol=1e-10, atol=1e-12)
        return
    if drawn.filters(DT) is None:
        synapses = network.synapses(network.connections["input->hidden"])
        with pytest.raises(ValueError, match=r"does not factorise.*'exact'"):
            Factorised().check(Site(synapses, (5,), drawn, "soma", None, DT))
    else:
        assert not torch.allclose(followed(Factorised(), network, inputs), exact, rtol=1e-3)


class Counted(NamedTuple):
    """How many steps have had a third factor."""

    steps: Tensor


@dataclasses.dataclass(frozen=True)
class Given:
    """A neuromodulator whose third factor is random numbers, known beforehand."""

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = False
    steady: ClassVar[bool] = False

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Counted:
        return Counted(torch.zeros((), dtype=torch.int64))

    def statistics(self, state: Counted, receiver: Receiver, broadcast: Broadcast) -> tuple[()]:
        return ()

    def update(self, state: Counted, sums: tuple[Tensor, ...], broadcast: Broadcast) -> Counted:
        return Counted(state.steps + 1)

    def third_factor(self, state: Counted, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        return self.at(int(state.steps) - 1, receiver.value)

    def projection(self, state: Counted) -> None:
        return None

    def at(self, t: int, like: Tensor) -> Tensor:
        return torch.randn(like.shape, dtype=like.dtype, generator=torch.Generator().manual_seed(t))


def through_time(network: Network, inputs: Tensor, score: Callable[[int, dict[str, Any]], Tensor]) -> Tensor:
    """Sum over steps of a score of the activity, with its graph."""
    parts: list[Tensor] = []

    def look(t: int, frame: Frame) -> None:
        parts.append(score(t, frame.activity))

    unroll(network, inputs, (look,), generator=noise(), differentiable=True)
    return torch.stack(parts).sum()


@pytest.mark.parametrize("name", [n for n in NEURONS if NEURONS[n]().factorises])
def test_factorised_eligibility_of_maps_is_a_derivative(name: str) -> None:
    """sum_t signal e against autograd of sum_t signal z. Must fail when the bias forgets its age (tried)."""
    network = maps(NEURONS[name]())
    task = trial(lively(network, "conv1"))
    local = learned(network, LocalRule(ThreeFactor(), Given()), task)
    for population in ("conv1", "conv2"):
        (connection,) = network.incoming[population]
        leaves = [network.weights[connection.name], network.biases[connection.name]]

        def score(t: int, activity: Any, population: str = population) -> Tensor:
            value = activity[population].value
            return task.weights[t] * (Given().at(t, value) * value).sum()

        exact = torch.autograd.grad(through_time(network, task.inputs, score), leaves)  # type: ignore[arg-type]
        for kind, value in zip(("weights", "biases"), exact, strict=True):
            got = local[f"{kind}.{connection.name}"]
            # Not that of the value alone: the bias of a standardised unit has no gradient but rounding.
            torch.testing.assert_close(got, value, rtol=1e-10, atol=1e-12 * exact[0].abs().max().item())


# A closed form -------------------------------------------------------------------------------------


class Watching:
    """e-prop that hands nothing out and remembers e (summed over the batch) and ebar of every step."""

    eligibilities = EligibilityPropagation.eligibilities

    def __init__(self) -> None:
        self.e: list[Synapses] = []
        self.ebar: list[Synapses] = []

    def init(self, local: Local) -> EligibilityTrace:
        self.e, self.ebar = [], []
        return EligibilityPropagation().init(local)

    def step(self, state: EligibilityTrace, local: Local, dt: float) -> tuple[None, EligibilityTrace]:
        _, state = EligibilityPropagation().step(state, local, dt)
        self.e.append(local.eligible.contract(torch.ones_like(local.post.value)))
        ebar = state.now()
        assert ebar is not None
        self.ebar.append(ebar)
        return None, state


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("tau_mem", "tau_out"), [(20e-3, 10e-3), (15e-3, 15e-3)])
def test_eligibility_after_one_spike_is_the_closed_form(tau_mem: float, tau_out: float, exact: bool) -> None:
    """E5, through a connection with a delay of 1, psi constant. With m steps since the spike:

    e = psi alpha^(m-1), ebar = psi (kappa^m - alpha^m) / (kappa - alpha), or m psi alpha^(m-1) if they are equal.
    Must fail when e is filtered before it is counted (tried: ebar = kappa (ebar + e)).
    """
    neuron = LIF(tau_mem, v_threshold=100.0, reset="to_value" if exact else "subtract", surrogate=Boxcar(0.7, 1e9))
    network = layered(neuron, LI(tau_out), delay=1)
    inputs = torch.zeros(30, 1, 4, dtype=torch.float64)
    inputs[4, 0, 2] = 1
    watching = Watching()
    learned(network, LocalRule(watching, None, eligibility="exact"), trial(inputs))  # type: ignore[arg-type]
    alpha, kappa, psi = math.exp(-DT / tau_mem), math.exp(-DT / tau_out), 0.7 / 100
    m = (torch.arange(30, dtype=torch.float64) - 4).clamp(min=0)
    e = psi * alpha ** (m - 1) * (m > 0)
    ebar = psi * ((kappa**m - alpha**m) / (kappa - alpha) if kappa != alpha else m * alpha ** (m - 1))
    age = torch.arange(1, 31, dtype=torch.float64)  # the bias is a synapse that spikes at every step
    close = functools.partial(torch.testing.assert_close, rtol=1e-10, atol=1e-14)
    close(torch.stack([s.weight[3, 2] for s in watching.e]), e)
    close(torch.stack([s.weight[0, 3, 2] for s in watching.ebar]), ebar)
    close(torch.stack([s.bias[3] for s in watching.e]), psi * (1 - alpha**age) / (1 - alpha))  # type: ignore[index]


def test_a_gradient_from_an_exact_eligibility_is_applied_where_it_belongs() -> None:
    """A fused optimizer gives what a plain one does. Must fail when the gradient is left a view with gaps (tried)."""
    after = []
    for fused in (True, False):
        torch.manual_seed(0)
        network = layered(ALIF(beta=0.5))
        task = trial(lively(network))
        learned(network, LocalRule(ThreeFactor(), Given(), eligibility="exact"), task)
        torch.optim.SGD(network.parameters(), 1.0, fused=fused).step()
        after.append([p.detach().clone() for p in network.parameters()])
    torch.testing.assert_close(*after, rtol=1e-12, atol=1e-12)
